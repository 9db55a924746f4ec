// Code blocks of the pages: their types.

import { join } from 'node:path';
import ts from 'typescript';
import { root } from './harness.mjs';

/** What an example in a doc comment may use without declaring it. */
const SCOPE = `
import { createReadStream, createWriteStream } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import { ContainerArchive } from '../index.js';
declare const archive: ContainerArchive;
declare const passphrase: string;
export { createReadStream, createWriteStream, pipeline };
`;

/** Compile errors of programs, each checked in a scope of its own. */
export function typeErrors(programs) {
  const file = join(root, '__test__', 'examples.mts');
  const text = SCOPE + programs.map((code, i) => `export async function f${i}() {\n${code}\n}`).join('\n');
  const options = {
    module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022, lib: ['lib.es2023.d.ts', 'lib.esnext.disposable.d.ts'],
    types: ['node'], strict: true, noEmit: true, skipLibCheck: true,
  };
  const host = ts.createCompilerHost(options);
  const { fileExists, getSourceFile, readFile } = host;
  host.fileExists = (name) => name === file || fileExists(name);
  host.readFile = (name) => (name === file ? text : readFile(name));
  host.getSourceFile = (name, ...more) => (
    name === file ? ts.createSourceFile(name, text, ts.ScriptTarget.ES2022, true) : getSourceFile(name, ...more));
  const program = ts.createProgram([file], options, host);
  return ts.getPreEmitDiagnostics(program).map(({ messageText }) => ts.flattenDiagnosticMessageText(messageText, '\n'));
}
