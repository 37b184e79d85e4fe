-- What the reads of each api took lately, for rebuilds that can spare them something. Unlogged: it is
-- news, and the commit of a row that nobody would miss after a crash waits for no disk.
create unlogged table refold.read_latency (
    -- The name that a process of the api gave itself when it started.
    api         text        not null primary key,
    measured_at timestamptz not null,
    -- Reads that ended in the stretch of time, and how long 99 of 100 took at most.
    reads       bigint      not null,
    p99_micros  bigint      not null
) with (fillfactor = 50);
