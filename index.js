'use strict';
// containerarchive: a backup engine for data streams. Types and documentation of every call:
// index.d.ts.
//
// CommonJS; `import { ContainerArchive } from '@serve.zone/containerarchive'` works from ES modules
// too.

require('./js/runtime.js'); // first: it refuses a Node that is too old

const { ContainerArchive } = require('./js/archive.js');
const { ContainerArchiveError } = require('./js/error.js');

module.exports = { ContainerArchive, ContainerArchiveError };
