'use strict';
// What this process has loaded: for reports of problems, and for the command `doctor`.

const { version } = require('../package.json');
const native = require('./native.js');

/** The file of the addon, as the module system knows it; null in a bundle that hides it. */
function addonFile() {
  const modules = Object.values(require.cache ?? {});
  return modules.find((each) => each?.exports === native && each.filename?.endsWith('.node'))?.filename ?? null;
}

/** The version, the file of the addon, and how this processor hashes and encrypts. */
function about() {
  return { version, addon: addonFile(), sha256: native.sha256Kernel(), aes: native.aesKernel() };
}

module.exports = { about };
