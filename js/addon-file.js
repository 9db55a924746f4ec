'use strict';
// For which system a native library was built, read from its first bytes: the loader of glibc
// reports a library of another processor as a file that does not exist.

const { closeSync, openSync, readSync } = require('node:fs');

/** Enough for the headers of all three formats. */
const HEAD_BYTES = 4096;

/** Numbers of processors, as each format has them, and as `process.arch` names them. */
const ELF = { 3: 'ia32', 21: 'ppc64', 22: 's390x', 40: 'arm', 62: 'x64', 183: 'arm64', 243: 'riscv64', 258: 'loong64' };
const MACH_O = { 0x01000007: 'x64', 0x0100000c: 'arm64' };
const PE = { 0x14c: 'ia32', 0x8664: 'x64', 0xaa64: 'arm64' };

/** `platform` and `arch` of a library that begins with these bytes; null when it is none. */
function builtFor(head) {
  if (head.length >= 20 && head.readUInt32BE(0) === 0x7f454c46) {
    return { platform: 'linux', arch: ELF[head.readUInt16LE(18)] ?? 'another processor' };
  }
  if (head.length >= 8 && head.readUInt32LE(0) === 0xfeedfacf) {
    return { platform: 'darwin', arch: MACH_O[head.readUInt32LE(4)] ?? 'another processor' };
  }
  // a universal binary: its parts are for several processors
  if (head.length >= 8 && head.readUInt32BE(0) === 0xcafebabe) return { platform: 'darwin', arch: 'universal' };
  if (head.length >= 64 && head.toString('latin1', 0, 2) === 'MZ') {
    const at = head.readUInt32LE(60);
    if (at + 6 <= head.length) return { platform: 'win32', arch: PE[head.readUInt16LE(at + 4)] ?? 'another processor' };
  }
  return null;
}

/** The same for a file; undefined when it cannot be read. Throws nothing. */
function fileBuiltFor(file) {
  let fd;
  try {
    fd = openSync(file, 'r');
    const head = Buffer.alloc(HEAD_BYTES);
    return builtFor(head.subarray(0, readSync(fd, head, 0, HEAD_BYTES, 0)));
  } catch {
    return undefined;
  } finally {
    if (fd !== undefined) closeSync(fd);
  }
}

module.exports = { builtFor, fileBuiltFor };
