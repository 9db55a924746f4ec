// The package itself, as every program uses it. Not bundled: cli/dist is as deep as cli/src.

export { ContainerArchive } from '../../index.js';
