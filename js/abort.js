'use strict';
// Not waiting any longer than a signal wants.

/**
 * What the promise gives, or the reason of the signal if that aborts first; what then comes all the same goes to `discard`.
 * Only for work that publishes nothing: nobody hears how it ends.
 */
function abortable(promise, signal, discard) {
  if (!signal) return promise;
  return new Promise((resolve, reject) => {
    const onAbort = () => reject(signal.reason);
    signal.addEventListener('abort', onAbort, { once: true });
    promise
      .finally(() => signal.removeEventListener('abort', onAbort))
      .then((value) => (signal.aborted ? discard(value) : resolve(value)))
      .catch(reject);
  });
}

module.exports = { abortable };
