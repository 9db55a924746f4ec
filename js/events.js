'use strict';
// Listeners of one handle: on() returns a Subscription. The names that RxJS fromEvent and Node's
// events.on() look for exist too.
//
// An exception of a listener never reaches the engine or the other listeners. It is rethrown on the
// next tick, as an uncaught exception of the program that the listener belongs to.

const { here } = require('./context.js');
const { invalidArgument } = require('./error.js');
const { kindOf } = require('./check.js');

/** Calls a function of the caller, and rethrows on the next tick what it throws. */
function callSafely(fn, ...args) {
  try {
    fn(...args);
  } catch (error) {
    process.nextTick(() => {
      throw error;
    });
  }
}

/** One registration of one listener. */
class Subscription {
  #remove;

  constructor(remove) {
    this.#remove = remove;
  }

  /** Whether the listener is no longer called. */
  get closed() {
    return this.#remove === null;
  }

  /** Removes the listener. Further calls do nothing. */
  unsubscribe() {
    this.#remove?.();
    this.#remove = null;
  }
}
if (Symbol.dispose) Subscription.prototype[Symbol.dispose] = Subscription.prototype.unsubscribe;

/** The events of a handle, as in IContainerArchiveEvents of index.d.ts. */
const EVENTS = [
  'ingest:progress', 'ingest:complete', 'restore:progress', 'restore:complete', 'verify:progress', 'verify:error',
  'repair:progress', 'repair:complete', 'repair:healed', 'prune:progress', 'prune:complete',
  'copy:progress', 'copy:complete', 'mirror:progress', 'mirror:complete', 'warning',
];
/**
 * Never emitted, but accepted: events.once() and events.on() of Node add and remove a listener for
 * it.
 */
const NODES = 'error';

/** The name of an event; anything else would be a listener that is never called. */
function eventName(event) {
  if (typeof event !== 'string') throw invalidArgument(`event must be a string, got ${kindOf(event)}`);
  if (EVENTS.includes(event) || event === NODES) return event;
  throw invalidArgument(`There is no event ${JSON.stringify(event)}`, { hint: `Known events: ${EVENTS.join(', ')}` });
}

/**
 * How many events without a listener are kept for the first one: a warning of open() precedes the
 * handle.
 */
const KEPT = { event: 'warning', most: 100 };

/** The listeners of one handle. */
class Events {
  #listeners = new Map();
  #kept = [];

  /** Adds a listener; the same function may be added more than once. */
  on(event, handler) {
    return this.#add(event, handler, { handler });
  }

  /** Adds a listener that is called once. */
  once(event, handler) {
    const entry = { handler, call: (value) => (subscription.unsubscribe(), handler(value)) };
    const subscription = this.#add(event, handler, entry);
    return subscription;
  }

  #add(event, handler, entry) {
    eventName(event);
    if (typeof handler !== 'function') throw invalidArgument(`handler must be a function, got ${kindOf(handler)}`);
    this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), entry]);
    if (event === KEPT.event && this.#kept.length > 0) {
      const kept = this.#kept;
      this.#kept = [];
      process.nextTick(() => kept.forEach(({ value, inContext }) => inContext(() => this.emit(event, value))));
    }
    return new Subscription(() => this.#remove(event, (other) => other === entry));
  }

  /** Removes the listener that was added last with this function. */
  off(event, handler) {
    const entry = this.#listeners.get(eventName(event))?.findLast((other) => other.handler === handler);
    if (entry) this.#remove(event, (other) => other === entry);
  }

  /** Calls every listener that is registered at this moment. */
  emit(event, value) {
    const listeners = this.#listeners.get(event);
    if (listeners) for (const { handler, call } of listeners) callSafely(call ?? handler, value);
    else if (event === KEPT.event && this.#kept.length < KEPT.most) this.#kept.push({ value, inContext: here() });
  }

  #remove(event, is) {
    const left = (this.#listeners.get(event) ?? []).filter((entry) => !is(entry));
    if (left.length > 0) this.#listeners.set(event, left);
    else this.#listeners.delete(event);
  }
}

module.exports = { Events, callSafely };
