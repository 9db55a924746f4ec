// What people read: every member of index.d.ts is documented, and its examples type-check.

import assert from 'node:assert/strict';
import ts from 'typescript';
import { test } from './support/harness.mjs';
import { EXPORTED, commentOf, declared, membersOf, nameOf, paths, written } from './support/pages.mjs';
import { typeErrors } from './support/blocks.mjs';

/** Every exported declaration with its members, their members and the options of calls. */
function everything() {
  return EXPORTED.flatMap((statement) => {
    const name = statement.name.text;
    const hasMembers = ts.isInterfaceDeclaration(statement) || ts.isClassDeclaration(statement);
    const members = hasMembers ? paths(statement) : written(statement.type).flatMap((type) => paths(type));
    const options = (hasMembers ? membersOf(statement) : []).flatMap((member) => (member.parameters ?? [])
      .flatMap((parameter) => written(parameter.type).flatMap((type) => paths(type, `${nameOf(member)}(${parameter.name.text}).`))));
    return [[name, statement], ...[...members, ...options].map(([path, member]) => [`${name}.${path}`, member])];
  });
}

test('every type, member and option of index.d.ts has a doc comment', () => {
  const all = everything();
  assert.ok(all.length > 390, `only ${all.length} members`);
  assert.deepEqual(all.filter(([, node]) => !/[a-z]/.test(commentOf(node))).map(([path]) => path), []);
});

/** The tags of the doc comment of a member: [{ name, text }]. */
const tagsOf = (member) => ts.getJSDocTags(member).map((tag) => (
  { name: tag.tagName.text, text: ts.getTextOfJSDocComment(tag.comment) ?? '' }));

test('the main calls of index.d.ts have examples that type-check, and state their errors', () => {
  const calls = membersOf(declared('ContainerArchive')).filter((member) => member.parameters);
  const examples = calls.flatMap((member) => tagsOf(member)
    .filter(({ name }) => name === 'example')
    .map(({ text }) => [nameOf(member), text]));
  assert.deepEqual(examples.map(([name]) => name), [
    'openOrInit', 'ingest', 'ingestMulti', 'ingestCommand', 'restore', 'restoreToFile', 'verify', 'prune',
  ]);
  for (const [name] of examples) {
    const member = calls.find((one) => nameOf(one) === name);
    assert.ok(tagsOf(member).some((tag) => tag.name === 'throws' && /ERR_|@link/.test(tag.text)), `${name} states no error`);
  }
  assert.deepEqual(typeErrors(examples.map(([, code]) => code)), []);
  assert.match(typeErrors(['await archive.prune({ keepDay: 7 });']).join(), /keepDay/);
});
