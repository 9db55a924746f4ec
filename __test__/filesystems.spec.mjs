// File systems with limits, mounted for the test: no free inode, neither hard links nor renames
// without replacing.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, readdirSync, statfsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { ContainerArchive, afterwards, rejectsWith, temporary, test } from './support/harness.mjs';

/**
 * Mounts over a new directory until the test ends; returns `null`, and prints it, where that is not
 * possible.
 */
function mounted(t, what, mount) {
  const folder = temporary(t);
  const at = join(folder, 'mounted');
  mkdirSync(at);
  try {
    mount(at, folder);
  } catch (error) {
    console.log(`SKIPPED: ${what} COULD NOT BE MOUNTED HERE: ${error.message.split('\n')[0]}`);
    t.skip(`${what} could not be mounted`);
    return null;
  }
  afterwards(t, () => execFileSync('umount', ['-l', at]));
  return at;
}

const run = (program, ...args) => execFileSync(program, args, { stdio: ['ignore', 'ignore', 'pipe'] });

test('without a free inode, prune and forget free some at the first try', async (t) => {
  const at = mounted(t, 'a tmpfs with few inodes', (at) => run('mount', '-t', 'tmpfs', '-o', 'size=32m,nr_inodes=160', 'none', at));
  if (!at) return;
  const repo = await ContainerArchive.init(join(at, 'repo'));
  afterwards(t, () => repo.close());
  const fill = async () => {
    for (let n = 0; ; n++) {
      try {
        await repo.ingest(Buffer.from(`snapshot ${n}`), { createdAt: new Date(1_700_000_000_000 + n * 60_000).toISOString() });
      } catch (error) {
        assert.equal(error.code, 'ERR_NO_SPACE');
        break;
      }
    }
    // another program takes the last inodes
    for (let n = readdirSync(at).length; statfsSync(at).ffree > 0; n++) writeFileSync(join(at, `other${n}`), '');
    return repo.listSnapshots();
  };
  const first = await fill();
  const pruned = await repo.prune({ keepLast: 1 });
  assert.equal(pruned.removedSnapshots, first.length - 1);
  assert.ok(pruned.removedPacks > 0);
  assert.deepEqual(pruned.unprotectedPacks, []);
  assert.ok(existsSync(join(at, 'repo', 'reserve-7')), 'the reserve was not recreated');

  const second = await fill();
  assert.ok(second.length > 1);
  const [newest, ...others] = second.map(({ id }) => id);
  assert.deepEqual((await repo.forget(others)).toSorted(), others.toSorted());
  assert.deepEqual((await repo.listSnapshots()).map(({ id }) => id), [newest]);
  assert.ok((await repo.prune({ keepLast: 'all' })).removedPacks > 0);
  assert.equal((await repo.verify()).ok, true);
});

test('init states what a file system lacks', async (t) => {
  const sftp = '/usr/lib/openssh/sftp-server';
  const at = mounted(t, 'sshfs without hard links', (at, folder) => {
    if (!existsSync(sftp)) throw new Error(`there is no ${sftp}`);
    const server = join(folder, 'server');
    writeFileSync(server, `#!/bin/sh\nexec ${sftp}\n`);
    chmodSync(server, 0o755);
    mkdirSync(join(folder, 'under'));
    run('sshfs', '-o', 'disable_hardlink', '-o', `ssh_command=${server}`, `localhost:${join(folder, 'under')}`, at);
  });
  if (!at) return;
  const error = await rejectsWith(ContainerArchive.init(join(at, 'repo')), 'ERR_FILESYSTEM_UNSUPPORTED');
  assert.match(error.message, /neither renames that replace nothing nor hard links/);
  assert.match(error.hint, /file-systems\.md/);
  assert.equal(error.retryable, false);
  assert.equal(error.path, 'locks/commit');
});
