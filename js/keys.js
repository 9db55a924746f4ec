'use strict';
// repo.keys: list, add, change, remove.

const check = require('./check.js');
const { read } = require('./fields.js');
const { INewKey } = require('./schema.js');
const secret = require('./secret.js');
const { invalidArgument } = require('./error.js');
const { stoppable } = require('./stop.js');

/** The options of add() and change(): { json, secret, signal? }. */
function newKey(value, mayReplace) {
  const fields = mayReplace ? { ...INewKey, id: { type: 'text' } } : INewKey;
  const given = check.options(value, fields, 'options');
  if (given.key !== undefined && given.kdf !== undefined) {
    throw invalidArgument('kdf cannot be combined with key: a raw key is not stretched');
  }
  const out = read(given, fields, Object.keys(fields).filter((name) => ['kdf', 'label', 'id'].includes(name)));
  const signal = check.signal(given.signal, 'signal');
  const taken = secret.take(given);
  if (taken === null) throw invalidArgument('passphrase or key must be given');
  return { json: JSON.stringify(out), secret: taken, signal };
}

/** The keys of the repository of one handle. */
class Keys {
  #call;
  #alone;

  /**
   * @param call calls a function with the native repository; its errors are those of this package
   * @param alone the same unless a signal is aborted, after all aborted calls of this handle have
   * ended
   */
  constructor(call, alone) {
    this.#call = call;
    this.#alone = alone;
  }

  async list() {
    return JSON.parse(await this.#call((repo) => repo.listKeys()));
  }

  async add(keyOptions) {
    return this.#make(newKey(keyOptions, false), 'addKey');
  }

  async change(keyOptions) {
    return this.#make(newKey(keyOptions, true), 'changeKey');
  }

  async remove(id) {
    const whole = check.text(id, 'id');
    await this.#alone((repo) => repo.removeKey(whole));
  }

  async #make(made, method) {
    const { signal } = made;
    try {
      // a closed handle refuses before a passphrase is asked for
      return await this.#alone((repo) => stoppable(signal, (stop) => made.secret.use(async (passphrase, key) => {
        signal?.throwIfAborted();
        return JSON.parse(await repo[method](made.json, passphrase, key, stop));
      })), signal);
    } finally {
      made.secret.drop();
    }
  }
}

module.exports = { Keys };
