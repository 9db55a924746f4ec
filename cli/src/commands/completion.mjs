// completion: scripts that complete the words of a command line, made from its definition.

import { Argument, Option } from 'commander';
import { COMPLETED, VALUES, VERB } from '../complete.mjs';
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

/**
 * The function that completes the words of bash, which zsh can run too: there, a variable `path`
 * would be that of commands. `first` is shell code that may return.
 */
function completer(words, program, first = '') {
  const cases = Object.entries(words).filter(([path]) => path !== '').map(([path, all]) => `    ${JSON.stringify(path)}) words=${JSON.stringify(all.join(' '))} ;;`);
  return `_containerarchive() {
  local current=\${COMP_WORDS[COMP_CWORD]} verb= before= word words
  for word in "\${COMP_WORDS[@]:1:$((COMP_CWORD - 1))}"; do
    case $before in ${flagsWithValue(program).join('|')}) before=; continue ;; esac
    before=$word
    [[ $word == -- ]] && { COMPREPLY=($(compgen -c -- "$current")); return; }
    [[ $word == -* ]] || { [[ -z $verb ]] && verb=$word; [[ $verb == key && $word != key ]] && verb="key $word"; }
  done
  words=${JSON.stringify(words[''].join(' '))}
  case $verb in
${cases.join('\n')}
  esac
  COMPREPLY=()${first}
  COMPREPLY=($(compgen -W "$words" -- "$current"))
  [[ $current == -* ]] || COMPREPLY+=($(compgen -f -- "$current"))
}`;
}

const bash = (words, program) => `# bash completion of containerarchive
${completer(words, program, `
  case $verb in ${COMPLETED.join('|')})
    while IFS= read -r word; do
      COMPREPLY+=("$word")
    done < <("\${COMP_WORDS[0]/#\\~/$HOME}" ${VERB} bash "\${COMP_LINE:0:$COMP_POINT}" "$current" 2>/dev/null </dev/null)
    [[ \${COMPREPLY[0]} == */ ]] && compopt -o nospace 2>/dev/null
    [[ \${#COMPREPLY[@]} -gt 0 ]] && return ;;
  esac`)}
complete -o filenames -o nosort -F _containerarchive containerarchive 2>/dev/null || complete -o filenames -F _containerarchive containerarchive`;

const zsh = (words, program) => `#compdef containerarchive
autoload -U +X bashcompinit && bashcompinit
${completer(words, program)}
_containerarchive_zsh() {
  local line="\${(j: :)words[1,CURRENT-1]} $QIPREFIX$PREFIX"
  local -a found=("\${(@f)$(\${words[1]/#\\~/$HOME} ${VERB} zsh "$line" 2>/dev/null </dev/null)}")
  [[ -z $found ]] && { _bash_complete -o filenames -F _containerarchive; return; }
  compadd -V found -S '' -- "\${(@M)found:#*/}"
  compadd -V found -- "\${(@)found:#*/}"
}
compdef _containerarchive_zsh containerarchive`;

/** A text in single quotes of fish. */
const quoted = (text) => `'${text.replace(/[\\']/g, '\\$&')}'`;

function fish(words, program) {
  const helper = `'(containerarchive ${VERB} fish (commandline -cp | string collect) 2>/dev/null </dev/null)'`;
  const lines = ['# fish completion of containerarchive'];
  const option = ({ short, long, description, required }, condition, isKnown) => {
    // without a value, nothing follows; with one, a file may
    const value = !required ? '' : isKnown && VALUES[new Option(long).attributeName()] ? ` -x -k -a ${helper}` : ' -r -F';
    lines.push(`complete -c containerarchive${condition}${short ? ` -s ${short.slice(1)}` : ''} -l ${long.slice(2)}${value} -d ${quoted(description)}`);
  };
  for (const each of program.options) option(each, '');
  for (const command of program.commands) {
    lines.push(`complete -c containerarchive -n __fish_use_subcommand -a ${command.name()} -d ${quoted(command.summary() || command.description())}`);
    for (const each of command.options) option(each, ` -n '__fish_seen_subcommand_from ${command.name()}'`, COMPLETED.includes(command.name()));
    for (const child of command.commands) {
      lines.push(`complete -c containerarchive -n '__fish_seen_subcommand_from ${command.name()}' -a ${child.name()} -d ${quoted(child.summary())}`);
    }
  }
  lines.push(`complete -c containerarchive -f -k -n '__fish_seen_subcommand_from ${COMPLETED.join(' ')}' -a ${helper}`);
  return lines.join('\n');
}

const SCRIPTS = { bash, zsh, fish };
