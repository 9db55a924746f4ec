'use strict';
// Days and times of the report, in one time zone. A day is its number since 1 January 1970, of the
// calendar of the zone; with `dayStartsAt`, as the policy has it.

const DAY_MS = 86_400_000;
const MONTHS = [
  'January', 'February', 'March', 'April', 'May', 'June',
  'July', 'August', 'September', 'October', 'November', 'December',
];
const WEEKDAYS = ['Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'];

const two = (number) => String(number).padStart(2, '0');
const four = (number) => String(number).padStart(4, '0');

/** The number of a date; months are counted from 0, also beyond a year. */
function dayOf(year, month, day = 1) {
  // not Date.UTC(), which moves the years 0 to 99
  return new Date(0).setUTCFullYear(year, month, day) / DAY_MS;
}

/** The date of a number: { year, month, day, weekday }, months and weekdays (Monday) from 0. */
function dateOf(number) {
  const date = new Date(number * DAY_MS);
  const weekday = (date.getUTCDay() + 6) % 7;
  return { year: date.getUTCFullYear(), month: date.getUTCMonth(), day: date.getUTCDate(), weekday };
}

/** The months since the year 0. */
const monthOf = ({ year, month }) => year * 12 + month;

/** The name of a month: 'June 2026'. */
const monthName = (month) => `${MONTHS[month - Math.floor(month / 12) * 12]} ${Math.floor(month / 12)}`;

/** A date for people: '7 June 2026'. */
function longDate(number) {
  const { year, month, day } = dateOf(number);
  return `${day} ${MONTHS[month]} ${year}`;
}

/** The same, short: '7 Jun 2026'. */
function shortDate(number) {
  const { year, month, day } = dateOf(number);
  return `${day} ${MONTHS[month].slice(0, 3)} ${year}`;
}

/** A date that sorts: '2026-06-07'. */
function isoDate(number) {
  const { year, month, day } = dateOf(number);
  return `${four(year)}-${two(month + 1)}-${two(day)}`;
}

class Zone {
  #format;
  /** The clock at the times that were asked for: each of them is asked for several times. */
  #clocks = new Map();
  #startMs;

  /**
   * @param {string} name of the IANA database. This runtime may not know one that the engine knows:
   * then the zone is UTC, and `unknown` has that name
   * @param {string} dayStartsAt 'HH:MM'
   */
  constructor(name, dayStartsAt) {
    const format = (timeZone) => new Intl.DateTimeFormat('en-US', {
      timeZone, calendar: 'gregory', numberingSystem: 'latn', hourCycle: 'h23',
      era: 'short', year: 'numeric', month: 'numeric', day: 'numeric', hour: 'numeric', minute: 'numeric',
    });
    try {
      this.#format = name === 'UTC' ? null : format(name);
      this.name = name;
      this.unknown = null;
    } catch {
      this.#format = null;
      this.name = 'UTC';
      this.unknown = name;
    }
    const [hours, minutes] = dayStartsAt.split(':').map(Number);
    this.#startMs = (hours * 60 + minutes) * 60_000;
  }

  /** The clock of the zone at a time, as if it were UTC, in milliseconds; whole minutes. */
  #clock(ms) {
    if (this.#format === null) return ms;
    const known = this.#clocks.get(ms);
    if (known !== undefined) return known;
    const parts = Object.fromEntries(this.#format.formatToParts(ms).map(({ type, value }) => [type, value]));
    const year = parts.era === 'BC' ? 1 - parts.year : Number(parts.year);
    const clock = dayOf(year, parts.month - 1, parts.day) * DAY_MS + (parts.hour * 60 + Number(parts.minute)) * 60_000;
    this.#clocks.set(ms, clock);
    return clock;
  }

  /** The number of the day that a time belongs to. */
  day(ms) {
    return Math.floor((this.#clock(ms) - this.#startMs) / DAY_MS);
  }

  /** A time for people, without the zone: '2026-06-07 01:45'. */
  time(ms) {
    const clock = this.#clock(ms);
    const day = Math.floor(clock / DAY_MS);
    const minutes = Math.floor((clock - day * DAY_MS) / 60_000);
    return `${isoDate(day)} ${two(Math.floor(minutes / 60))}:${two(minutes % 60)}`;
  }

  /** The same with the name of the month and of the zone: '7 June 2026, 01:45 UTC'. */
  longTime(ms) {
    return `${longDate(Math.floor(this.#clock(ms) / DAY_MS))}, ${this.time(ms).slice(-5)} ${this.name}`;
  }
}

module.exports = { MONTHS, WEEKDAYS, Zone, dateOf, dayOf, isoDate, longDate, monthName, monthOf, shortDate };
