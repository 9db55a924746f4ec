'use strict';
// The first file that runs. It refuses a runtime that is too old before anything else is loaded,
// so it uses only syntax and calls that every Node has.

const { version } = require('../package.json');

/** The same numbers as `engines` in package.json. */
const NEEDED = [20, 9];

/** The error for a version of Node, or null when this package runs there. */
function tooOld(node) {
  const parts = String(node).split('.').map(Number);
  if (parts[0] > NEEDED[0] || (parts[0] === NEEDED[0] && parts[1] >= NEEDED[1])) return null;
  const needed = NEEDED.join('.');
  const error = new Error(
    'Cannot load containerarchive ' + version + ': it needs Node >= ' + needed + ', and this is Node ' + node + '\n' +
      'To fix this: install Node ' + needed + ' or later (a version manager: "nvm install 22")',
  );
  error.code = 'ERR_NATIVE_LOAD';
  error.reason = 'unsupported-node';
  return error;
}

const refused = tooOld(process.versions.node);
if (refused !== null) throw refused;
