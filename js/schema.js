'use strict';
// The options of all public calls: type, range, unit and default of each. The JavaScript side has
// its limits and defaults only here.
//
// The checks of this directory read this table. A default that is a value is passed to the native
// side from here, except those of a retention policy, which are the engine's.
// __test__/options.spec.mjs compares the table with index.d.ts, with docs/api.md, and with the
// limits and defaults that the engine has for itself.
//
// A field is { type, … }: `required`, `default` (none: what happens without the option is not a
// value, as the number of cores), for numbers `min`, `max` and `unit`, for a choice its `values`,
// for an object its `fields`.

const KIB = 1024;
const MIB = 1024 * KIB;
const GIB = 1024 * MIB;
const MAX_U32 = 2 ** 32 - 1;

/** Longest item name, type, label, tag key or tag value, in bytes of UTF-8. */
const MAX_TEXT_BYTES = 4096;
/** Length of a raw key. */
const KEY_BYTES = 32;
/** The range of levels of each algorithm. */
const LEVELS = { gzip: [1, 9], zstd: [1, 19], none: [0, 0] };

const required = (field) => ({ ...field, required: true });
const integer = (unit, min, max = Number.MAX_SAFE_INTEGER, byDefault) => (
  { type: 'integer', unit, min, max, ...(byDefault !== undefined && { default: byDefault }) });
const boolean = (byDefault) => ({ type: 'boolean', ...(byDefault !== undefined && { default: byDefault }) });
const choice = (values, byDefault) => (
  { type: 'choice', values, ...(byDefault !== undefined && { default: byDefault }) });
const object = (fields, byDefault) => (
  { type: 'object', fields, ...(byDefault !== undefined && { default: byDefault }) });

const TEXT = { type: 'text' };
const TAGS = { type: 'tags', default: {} };
const ID = { type: 'id' };
const SIGNAL = { type: 'signal' };
const CALLBACK = { type: 'callback' };
const COMPRESSION = { type: 'compression' };
const PASSPHRASE = { type: 'passphrase' };
const RAW_KEY = { type: 'rawKey' };
/** A path in a tar: a string, or a Buffer. */
const MEMBER = { type: 'member' };
const LIST = { type: 'list', default: [] };

const IKdf = {
  memory: integer('KiB', 19_456, 2 * GIB / KIB, 64 * MIB / KIB),
  time: integer('passes', 2, 16, 3),
  lanes: integer('lanes', 1, 16, 4),
};
const defaultsOf = (fields) => (
  Object.fromEntries(Object.entries(fields).map(([name, field]) => [name, field.default])));
const KDF = object(IKdf, defaultsOf(IKdf));

const Compression = {
  algorithm: required(choice(['gzip', 'zstd', 'none'])),
  /** Its range is that of LEVELS, or 'auto' for zstd. 'none' has no level. */
  level: { type: 'level', default: 3 },
};

/** How a bucket is reached. What is absent comes from the environment. */
const IStorageOptions = {
  endpoint: TEXT,
  region: TEXT,
  profile: TEXT,
  accessKeyId: TEXT,
  secretAccessKey: TEXT,
  sessionToken: TEXT,
  serviceAccountFile: { type: 'path' },
  pathStyle: boolean(),
  caFile: { type: 'path' },
  allowHttp: boolean(false),
  timeoutMs: integer('milliseconds', 1, MAX_U32, 60_000),
  connectTimeoutMs: integer('milliseconds', 1, MAX_U32, 5_000),
  retries: integer('requests', 0, 100, 6),
  cacheDir: { type: 'path', mayBeFalse: true },
};

/** Options of a handle. */
const handle = {
  passphrase: PASSPHRASE,
  key: RAW_KEY,
  readOnly: boolean(false),
  threads: integer('threads', 1, 1024),
  memoryLimit: integer('bytes', 1, undefined, 192 * MIB),
  lockWaitMs: integer('milliseconds', 0, undefined, 10_000),
  verifyWrites: boolean(true),
  heal: boolean(true),
  storage: object(IStorageOptions),
  signal: SIGNAL,
};

const IOpenOptions = { ...handle, keyless: boolean(false), repositoryId: ID, promote: boolean(false) };

const chunking = {
  min: required(integer('bytes', 64, MIB)),
  avg: required(integer('bytes', 256, 4 * MIB)),
  max: required(integer('bytes', KIB, 8 * MIB)),
};
const parity = {
  data: required(integer('packs', 1, 224)),
  parity: required(integer('shards', 1, 32)),
};

/** What is fixed for the life of a repository. */
const fixed = {
  compression: { ...COMPRESSION, default: 'gzip' },
  chunking: object(chunking, { min: 64 * KIB, avg: 256 * KIB, max: MIB }),
  packSize: integer('bytes', 64 * KIB, GIB, 8 * MIB),
  parity: { ...object(parity, { data: 20, parity: 1 }), mayBeFalse: true },
  kdf: KDF,
};
const IInitOptions = { ...handle, ...fixed };
const IOpenOrInitOptions = { ...IInitOptions, repositoryId: ID };

const INewKey = { passphrase: PASSPHRASE, key: RAW_KEY, kdf: KDF, label: TEXT, signal: SIGNAL };

const DEFAULT_TYPE = 'data';
const IItemDescription = { name: required(TEXT), type: { ...TEXT, default: DEFAULT_TYPE } };

const IIngestBaseOptions = {
  tags: TAGS,
  // In every time zone, the year of a snapshot has four digits.
  createdAt: { type: 'time', min: '0000-01-01T00:00:00.000Z', max: '9999-12-30T22:00:00.000Z' },
  compression: COMPRESSION,
  digest: choice(['sha256']),
  /** 'auto', true or false. */
  tarIndex: { type: 'tarIndex', default: 'auto' },
  commitWhen: { type: 'commitWhen' },
  signal: SIGNAL,
  onProgress: CALLBACK,
};
const expectedSize = integer('bytes', 0);
const IIngestOptions = {
  ...IIngestBaseOptions,
  items: { type: 'items', default: [{ name: 'data', type: DEFAULT_TYPE }] },
  expectedSize,
};
const IIngestMultiOptions = {
  ...IIngestBaseOptions,
  // Each item that is read concurrently has a thread and buffers.
  concurrency: integer('items', 1, 16, 1),
};
const IIngestItem = { ...IItemDescription, stream: required({ type: 'source' }), expectedSize };
const IIngestCommand = {
  command: required({ type: 'command' }),
  ...IItemDescription,
  // A timer of Node with a longer time fires at once.
  timeoutMs: integer('milliseconds', 1, 2 ** 31 - 1),
  okExitCodes: { type: 'exitCodes', min: 0, max: MAX_U32, default: [0] },
  refuseEmpty: boolean(false),
  cwd: { type: 'path' },
  env: { type: 'env' },
  expectedSize,
};

const range = { start: integer('bytes', 0, undefined, 0), end: integer('bytes', 0) };
const IRestoreOptions = { item: TEXT, member: MEMBER, range: object(range), signal: SIGNAL };
const IRestoreToFileOptions = {
  item: TEXT,
  member: MEMBER,
  path: required({ type: 'path' }),
  overwrite: boolean(false),
  signal: SIGNAL,
  onProgress: CALLBACK,
};

const IRestoreToDirectoryOptions = {
  item: TEXT,
  member: MEMBER,
  to: required({ type: 'path' }),
  overwrite: boolean(false),
  stripComponents: integer('names', 0, MAX_U32, 0),
  owners: boolean(),
  setuid: boolean(false),
  devices: boolean(false),
  outsideLinks: boolean(false),
  signal: SIGNAL,
  onProgress: CALLBACK,
};
const IFilesOptions = {
  item: TEXT,
  member: MEMBER,
  recursive: boolean(false),
  all: boolean(false),
  signal: SIGNAL,
};
const IMemberInfoOptions = { item: TEXT, member: required(MEMBER) };
const IDiffOptions = { item: TEXT, signal: SIGNAL };

const BOUND = { type: 'timeBound' };
const ISnapshotFilter = { tags: TAGS, after: BOUND, before: BOUND };
const ISnapshotListOptions = { ...ISnapshotFilter, limit: integer('snapshots', 1) };

const IVerifyOptions = {
  level: choice(['quick', 'standard', 'full'], 'standard'),
  subset: { type: 'subset', max: MAX_U32 },
  signal: SIGNAL,
  onProgress: CALLBACK,
};

/** 0 turns a rule off. */
const COUNT = { type: 'count', min: 0, max: MAX_U32, default: 0 };
const IRetentionPolicy = {
  keepLast: COUNT,
  keepHours: COUNT,
  keepDays: COUNT,
  keepWeeks: COUNT,
  keepMonths: COUNT,
  keepYears: COUNT,
  keepWithin: { type: 'string' },
  keepTags: LIST,
  keepIds: LIST,
  groupBy: LIST,
  timeZone: { type: 'string', default: 'UTC' },
  dayStartsAt: { type: 'string', default: '00:00' },
  anchor: choice(['latest', 'now'], 'latest'),
};

const IPlanPruneOptions = {
  filter: object({ tags: TAGS }),
  maxUnused: { type: 'number', unit: 'share', min: 0, max: 1, default: 0.05 },
  force: boolean(false),
  signal: SIGNAL,
  onProgress: CALLBACK,
};
const IPruneOptions = {
  ...IPlanPruneOptions, dryRun: boolean(false), wait: boolean(false), exclusive: boolean(false),
};

const ICopyOptions = {
  snapshots: LIST,
  filter: object(ISnapshotFilter),
  signal: SIGNAL,
  onProgress: CALLBACK,
};
const IMirrorOptions = {
  delete: boolean(false),
  dryRun: boolean(false),
  storage: object(IStorageOptions),
  signal: SIGNAL,
  onProgress: CALLBACK,
};
const IReportOptions = { policy: { type: 'policy' }, signal: SIGNAL };
const IRepairOptions = { exclusive: boolean(false), signal: SIGNAL, onProgress: CALLBACK };
/** Options of reindex() and stats(). */
const signalOnly = { signal: SIGNAL };
const unlock = { force: boolean(false) };

/** The options by the names of their types in index.d.ts. */
const SCHEMA = {
  Compression, ICopyOptions, IDiffOptions, IFilesOptions, IIngestBaseOptions, IIngestCommand, IIngestItem, IIngestMultiOptions, IIngestOptions,
  IInitOptions, IItemDescription, IKdf, IMemberInfoOptions, IMirrorOptions, INewKey, IOpenOptions, IOpenOrInitOptions, IPlanPruneOptions,
  IPruneOptions, IRepairOptions, IReportOptions, IRestoreOptions, IRestoreToDirectoryOptions, IRestoreToFileOptions, IRetentionPolicy,
  ISnapshotFilter, ISnapshotListOptions, IStorageOptions, IVerifyOptions,
};

module.exports = { ...SCHEMA, KEY_BYTES, LEVELS, MAX_TEXT_BYTES, SCHEMA, signalOnly, unlock };
