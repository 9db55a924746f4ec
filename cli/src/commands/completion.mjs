// completion: scripts that complete the words of a command line, made from its definition.

import { Argument } from 'commander';
import { EXIT } from '../failure.mjs';

const SHELLS = ['bash', 'zsh', 'fish'];

export function define(program, run) {
  program
    .command('completion')
    .summary('print a completion script')
    .description('Prints a completion script, as for ~/.bashrc: source <(containerarchive completion bash)')
    .addArgument(new Argument('<shell>', 'the shell').choices(SHELLS))
    .action(run((session, shell) => {
      session.output.line(SCRIPTS[shell](wordsOf(program), program));
      return EXIT.ok;
    }));
}

const flagsOf = (command) => command.options.flatMap(({ short, long, hidden }) => (hidden ? [] : [short, long].filter(Boolean)));

/** The words after each command: { 'key add': ['--label', …] }, and those after none under ''. */
function wordsOf(program) {
  const common = [...flagsOf(program), '--help'];
  const words = {};
  const add = (command, path) => {
    const children = command.commands.filter((child) => child.name() !== 'help');
    words[path] = [...children.flatMap((child) => [child.name(), ...child.aliases()]), ...(command === program ? [] : flagsOf(command)), ...common];
    for (const child of children) for (const name of [child.name(), ...child.aliases()]) add(child, `${path} ${name}`.trim());
  };
  add(program, '');
  return words;
}

/** Flags of the program that take a value, which is no command. */
const flagsWithValue = (program) => program.options.filter((option) => option.required).flatMap(({ short, long }) => [short, long].filter(Boolean));

function bash(words, program) {
  const cases = Object.entries(words).filter(([path]) => path !== '').map(([path, all]) => `    ${JSON.stringify(path)}) words=${JSON.stringify(all.join(' '))} ;;`);
  return `# bash completion of containerarchive
_containerarchive() {
  local current=\${COMP_WORDS[COMP_CWORD]} path= before= word words
  for word in "\${COMP_WORDS[@]:1:COMP_CWORD-1}"; do
    case $before in ${flagsWithValue(program).join('|')}) before=; continue ;; esac
    before=$word
    [[ $word == -- ]] && { COMPREPLY=($(compgen -c -- "$current")); return; }
    [[ $word == -* ]] || { [[ -z $path ]] && path=$word; [[ $path == key && $word != key ]] && path="key $word"; }
  done
  words=${JSON.stringify(words[''].join(' '))}
  case $path in
${cases.join('\n')}
  esac
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ $current == -* ]] || COMPREPLY+=($(compgen -f -- "$current"))
}
complete -o filenames -F _containerarchive containerarchive`;
}

const zsh = (words, program) => `#compdef containerarchive
autoload -U +X bashcompinit && bashcompinit
${bash(words, program)}`;

/** A text in single quotes of fish. */
const quoted = (text) => `'${text.replace(/[\\']/g, '\\$&')}'`;

function fish(words, program) {
  const lines = ['# fish completion of containerarchive'];
  const option = ({ short, long, description }, condition) =>
    lines.push(`complete -c containerarchive${condition}${short ? ` -s ${short.slice(1)}` : ''} -l ${long.slice(2)} -d ${quoted(description)}`);
  for (const each of program.options) option(each, '');
  for (const command of program.commands) {
    lines.push(`complete -c containerarchive -n __fish_use_subcommand -a ${command.name()} -d ${quoted(command.summary() || command.description())}`);
    for (const each of command.options) option(each, ` -n '__fish_seen_subcommand_from ${command.name()}'`);
    for (const child of command.commands) {
      lines.push(`complete -c containerarchive -n '__fish_seen_subcommand_from ${command.name()}' -a ${child.name()} -d ${quoted(child.summary())}`);
    }
  }
  return lines.join('\n');
}

const SCRIPTS = { bash, zsh, fish };
