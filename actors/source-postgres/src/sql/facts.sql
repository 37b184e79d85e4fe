-- What an event table is, and what has to hold for it to be a log.
select
    (select system_identifier from pg_control_system()) as system_identifier,
    (select oid from pg_database where datname = current_database()) as database,
    log.id,
    log.partitions,
    log.low,
    events.oid as events,
    sequence.oid as sequence,
    pg_is_in_recovery() as recovering,
    coalesce(has_sequence_privilege(sequence.oid, 'select, usage'), false) as sequence_readable,
    events.relkind::text as kind,
    events.relpersistence::text as persistence,
    coalesce(sequence.relpersistence::text, '') as sequence_persistence,
    exists (select from pg_inherits where inhrelid = events.oid or inhparent = events.oid) as inherits,
    (select count(*) from pg_trigger
        where tgrelid = events.oid and tgenabled = 'A'
            and tgname in ('place', 'refuse', 'refuse_above_low')) as always,
    -- For each row, before, insert: what gives a row its position, or takes it away again.
    (select count(*) from pg_trigger
        where tgrelid = events.oid and not tgisinternal and tgtype & 7 = 7) as placing,
    exists (select from pg_rewrite where ev_class = events.oid) as ruled,
    facts.seqcache as cache,
    facts.seqincrement as increment,
    facts.seqcycle as cycle
from refold_events.logs log
left join pg_class events
    on events.relnamespace = 'refold_events'::regnamespace and events.relname = log.name
left join pg_class sequence
    on sequence.relnamespace = 'refold_events'::regnamespace
    and sequence.relname = log.name || '_position'
left join pg_sequence facts on facts.seqrelid = sequence.oid
where log.name = $1
