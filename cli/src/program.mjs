// The commands and options of the command line.

import { Command, Option } from 'commander';
import { version } from '../../package.json';
import * as backup from './commands/backup.mjs';
import * as check from './commands/check.mjs';
import * as completion from './commands/completion.mjs';
import * as copies from './commands/copies.mjs';
import * as doctor from './commands/doctor.mjs';
import * as files from './commands/files.mjs';
import * as forget from './commands/forget.mjs';
import * as init from './commands/init.mjs';
import * as key from './commands/key.mjs';
import * as report from './commands/report.mjs';
import * as restore from './commands/restore.mjs';
import * as snapshots from './commands/snapshots.mjs';
import * as stats from './commands/stats.mjs';

const COMMANDS = [init, backup, restore, snapshots, files, forget, copies, check, stats, key, doctor, report, completion];

const EXAMPLES = `
Examples:
  containerarchive -r /mnt/backups/shop init
  containerarchive -r /mnt/backups/shop backup -- pg_dump shop
  containerarchive -r /mnt/backups/shop backup --item db.sql='pg_dump shop' --item files.tar='tar -c /srv/shop'
  containerarchive -r /mnt/backups/shop restore latest --item db.sql --to - | psql shop
  containerarchive -r /mnt/backups/shop restore latest --item files.tar --member srv/shop/a.jpg --to - >a.jpg
  containerarchive -r /mnt/backups/shop forget --keep-daily 7 --keep-weekly 4 --prune --yes

Exit codes: 0 done, 1 failed or damage found, 3 files were skipped, 10 no repository, 11 locked,
12 wrong or missing passphrase, 130 interrupted.`;

/**
 * The program.
 * @param {(action: (session, ...args) => Promise<number>) => (...args) => Promise<void>} run turns
 * the action of a command into that of the parser: its last arguments are the options
 * @param {boolean} isJson whether mistakes are only thrown, and not printed as text too
 */
export function createProgram(run, isJson) {
  const program = new Command('containerarchive')
    .description('Deduplicated, compressed, encrypted backups that repair themselves.')
    .version(version)
    .option('-r, --repo <path>', 'the repository (or CONTAINERARCHIVE_REPOSITORY)')
    .option('--passphrase-file <file>', 'read the passphrase from a file (or CONTAINERARCHIVE_PASSPHRASE_FILE)')
    .option('--passphrase-command <command>', 'read it from the output of a command (or CONTAINERARCHIVE_PASSPHRASE_COMMAND)')
    .option('--promote', 'make a mirror a repository of its own, when the original is lost')
    .option('--json', 'print results as JSON lines')
    .option('-q, --quiet', 'print only results and problems')
    .addOption(new Option('--no-progress', 'show no progress on the terminal'))
    .addHelpText('after', EXAMPLES)
    .configureOutput({
      outputError: (text, write) => write(text.replace(/^error: /, 'containerarchive: ')),
      ...(isJson && { writeErr: () => {} }),
    })
    .showHelpAfterError('  See "containerarchive --help", or "containerarchive COMMAND --help".')
    .exitOverride();
  for (const { define } of COMMANDS) define(program, run);
  return program;
}
