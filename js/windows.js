'use strict';
// How a command of the caller is started on Windows, where a program gets one text instead of
// arguments.
//
// Node writes that text by the rules of the C runtime, which most programs follow: a quote in an
// argument becomes \". cmd.exe does not know this escape. It takes what is between the first and
// the last quote after /s /c as the line to run, and that line must be as the caller wrote it.

const { win32 } = require('node:path');

/** Whether the command is `cmd.exe … /s … /c LINE`. */
function isLineOfCmd([file, ...args]) {
  const options = args.slice(0, -1).map((each) => each.toLowerCase());
  return /^cmd(\.exe)?$/i.test(win32.basename(file)) && options.at(-1) === '/c' && options.includes('/s')
    && options.every((each) => /^\/[a-z:]+$/.test(each));
}

/** The arguments of `spawn` for a command on Windows: { args, windowsVerbatimArguments }. */
function windowsArguments(command) {
  const args = command.slice(1);
  if (!isLineOfCmd(command)) return { args, windowsVerbatimArguments: false };
  return { args: [...args.slice(0, -1), `"${args.at(-1)}"`], windowsVerbatimArguments: true };
}

module.exports = { windowsArguments };
