begin;
-- Names of other objects are qualified in the migrations; one migrator at a time.
set local lock_timeout = '8s';
select pg_advisory_xact_lock(hashtextextended('refold.migrations', 0));
create schema if not exists refold;
create table if not exists refold.migrations (
    number     integer primary key,
    name       text not null,
    checksum   text not null,
    applied_at timestamptz not null default clock_timestamp()
);
