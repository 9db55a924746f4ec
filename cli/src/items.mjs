// The item of a command that reads one: an error about it names those that the snapshot has.

import { Failure } from './failure.mjs';
import { printable, shortId } from './output.mjs';

/** Most items that are named one by one. */
const MOST_NAMED = 20;

/** What a user can do: the option, and the names it takes. */
export function itemHint(items) {
  const names = items.slice(0, MOST_NAMED).map(({ name }) => printable(name)).join(', ');
  const left = items.length - MOST_NAMED;
  return `Use --item with one of: ${names}${left > 0 ? `, and ${left} more, which "ls" lists` : ''}`;
}

/** An error about the item of a snapshot. */
export function itemFailure({ id, items }, item, cause) {
  const text = item !== undefined
    ? `Snapshot ${shortId(id)} has no item ${JSON.stringify(item)}`
    : `Snapshot ${shortId(id)} has ${items.length} items, and none is named`;
  const failure = new Failure(text, {
    code: item !== undefined ? 'ERR_ITEM_NOT_FOUND' : 'ERR_INVALID_ARGUMENT', hint: items.length === 0 ? undefined : itemHint(items), cause,
  });
  return Object.assign(failure, { snapshotId: id, item });
}

/** The snapshot of an error about its items; undefined for every other error. */
const snapshotOf = ({ code, snapshotId, message }) => (
  code === 'ERR_ITEM_NOT_FOUND' ? snapshotId : /^item: snapshot ([0-9a-f]{32}) has \d+ items/.exec(message)?.[1]);

/** Does a piece of work with the members of an item, `item` as it was given. */
export async function withItem(archive, item, work) {
  try {
    return await work();
  } catch (error) {
    const id = snapshotOf(error);
    if (id === undefined) throw error;
    const snapshot = await archive.getSnapshot(id).catch(() => undefined);
    throw snapshot === undefined ? error : itemFailure(snapshot, item, error);
  }
}
