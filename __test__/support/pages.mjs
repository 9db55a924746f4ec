// The declarations of index.d.ts and the tables of docs/api.md, for the tests that compare them.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import ts from 'typescript';
import { root } from './harness.mjs';

export const read = (file) => readFileSync(join(root, file), 'utf8');
export const PAGE = read('docs/api.md');
const TYPES = ts.createSourceFile('index.d.ts', read('index.d.ts'), ts.ScriptTarget.Latest, true);
export const EXPORTED = TYPES.statements.filter((statement) => statement.name);
export const declared = (name) => EXPORTED.find((statement) => statement.name.text === name);

export const sorted = (values) => [...new Set(values)].sort();

/**
 * The part of the page under each heading of a level, up to the next heading of that level or a
 * higher one.
 */
export function sections(level) {
  const parts = PAGE.split(new RegExp(`^(?=#{2,${level}} )`, 'm')).filter((part) => part.startsWith(`${'#'.repeat(level)} `));
  return parts.map((text) => ({ heading: text.split('\n', 1)[0], text }));
}

/** The part of the page about each type: [name, text]. */
export const typeSections = () => sections(4).map(({ heading, text }) => [/`(\w+)`/.exec(heading)[1], text]);

/** Rows of the tables in a text, as arrays of cells; headings and rulers left out. */
export function rows(text) {
  return text
    .split('\n')
    .filter((line) => line.startsWith('| `'))
    .map((line) => line.slice(2, -2).split(/(?<!\\)\s*\|\s*/));
}

export const nameOf = (member) => (
  ts.isIdentifier(member.name) || ts.isStringLiteral(member.name) ? member.name.text : member.name.getText());
const isHidden = (member) => member.modifiers?.some((modifier) => modifier.kind === ts.SyntaxKind.PrivateKeyword);
export const membersOf = (node) => node.members.filter((member) => member.name && !isHidden(member));

/** Object types that are written out within another type: of an option, an array or a union. */
export function written(type) {
  if (!type) return [];
  if (ts.isTypeLiteralNode(type)) return [type];
  if (ts.isFunctionTypeNode(type) || ts.isTypeReferenceNode(type)) return [];
  const inner = [];
  ts.forEachChild(type, (child) => {
    if (ts.isTypeNode(child)) inner.push(...written(child));
  });
  return inner;
}

/** Every member of an interface or class, with those of objects within it as `outer.inner`. */
export function paths(node, prefix = '') {
  return membersOf(node).flatMap((member) => [
    [prefix + nameOf(member), member],
    ...written(member.type).flatMap((type) => paths(type, `${prefix}${nameOf(member)}.`)),
  ]);
}

/** The members of a declared type, as `paths` gives them. */
export function pathsOf(name) {
  const node = declared(name);
  const isTyped = ts.isInterfaceDeclaration(node) || ts.isClassDeclaration(node);
  return isTyped ? paths(node) : written(node.type).flatMap((type) => paths(type));
}

/** Members of an interface, those that it inherits included. */
export function allMembers(name) {
  const node = declared(name);
  const inherited = (node.heritageClauses ?? []).flatMap((clause) => clause.types).flatMap(({ expression, typeArguments }) => {
    if (expression.text !== 'Omit') return allMembers(expression.text);
    const [from, without] = typeArguments.map((type) => type.getText());
    return allMembers(from).filter((member) => !without.split(' | ').includes(`'${nameOf(member)}'`));
  });
  return [...inherited, ...(ts.isInterfaceDeclaration(node) ? membersOf(node) : written(node.type).flatMap(membersOf))];
}

/** Names of the members of an interface, those that it inherits included. */
export const optionsOf = (name) => allMembers(name).map(nameOf);

/** The doc comment of a declaration as running text. */
export function commentOf(node) {
  const text = node.getFullText().slice(0, node.getLeadingTriviaWidth());
  return text.replace(/^\s*\/?\*+\/?/gm, ' ').replace(/\*\/\s*$/, ' ').replace(/\s+/g, ' ').trim();
}
