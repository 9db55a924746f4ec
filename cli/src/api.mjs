// The package itself, as every program uses it. Loaded by the first command that needs it: help
// needs no addon, and one that cannot be loaded is an error like all others.
//
// Not bundled: cli/dist is as deep as cli/src.

import { Failure } from './failure.mjs';

/** The class ContainerArchive. */
export async function loadApi() {
  try {
    return (await import('../../index.js')).ContainerArchive;
  } catch (cause) {
    if (cause.code !== 'ERR_NATIVE_LOAD') throw cause;
    const [what, todo, system] = cause.message.split('\n');
    throw new Failure(`${what} (${system})`, { code: cause.code, hint: todo.replace(/^To fix this: /, ''), cause });
  }
}
