// Progress on stderr, only on a terminal.

import { SingleBar } from 'cli-progress';
import { duration, printable, size } from './output.mjs';

const WIDTH = 24;

/** The bar of a share from 0 to 1. */
function bar(share) {
  const full = Math.round(share * WIDTH);
  return `[${'#'.repeat(full)}${'-'.repeat(WIDTH - full)}]`;
}

/** The line of a progress of the API, at most `columns` wide. */
export function progressLine(progress, columns = 80) {
  const { percentage, bytesDone, bytesTotal, bytesPerSecond, etaSeconds, reusedBytes, item, phase } = progress;
  if (phase === 'waiting') return progress.message.slice(0, columns - 1);
  const parts = [];
  if (percentage !== null) parts.push(`${bar(percentage / 100)} ${percentage.toFixed(1).padStart(5)} %`);
  parts.push(bytesTotal === null ? size(bytesDone) : `${size(bytesDone)} of ${size(bytesTotal)}`);
  if (bytesPerSecond > 0) parts.push(`${size(bytesPerSecond)}/s`);
  if (etaSeconds > 0) parts.push(`${duration(etaSeconds)} left`);
  if (reusedBytes > 0 && bytesDone > 0) parts.push(`${Math.floor((100 * reusedBytes) / bytesDone)} % known`);
  if (item) parts.push(printable(item));
  return parts.join(', ').slice(0, columns - 1);
}

/**
 * A progress bar for one operation: `onProgress` for the API, and `stop`, which removes it. Without
 * a terminal both do nothing.
 */
function startProgress(output) {
  if (!output.showsProgress) return { onProgress: undefined, stop() {} };
  let newest = null;
  const line = new SingleBar({
    stream: process.stderr,
    fps: 10,
    hideCursor: true,
    clearOnComplete: true,
    linewrap: false,
    emptyOnZero: true,
    format: () => (newest === null ? '' : progressLine(newest, process.stderr.columns || 80)),
  });
  line.start(1, 0);
  let running = true;
  const stop = () => {
    if (!running) return;
    running = false;
    output.beforeLine = () => {};
    line.stop();
  };
  // The line is drawn again by its own timer.
  output.beforeLine = () => process.stderr.write('\r\x1b[K');
  const onProgress = (progress) => {
    newest = progress;
    line.update(0);
  };
  return { onProgress, stop };
}

/**
 * Makes one call of the API with a progress bar, which is gone when this settles. `call` gets the
 * options for the progress.
 */
export async function withProgress(output, call) {
  const { onProgress, stop } = startProgress(output);
  try {
    return await call(onProgress === undefined ? {} : { onProgress });
  } finally {
    stop();
  }
}
