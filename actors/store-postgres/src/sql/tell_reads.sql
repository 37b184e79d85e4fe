-- One process tells under one name, so nobody else inserts it meanwhile.
with gone as (
    delete from refold.read_latency
     where api <> $1 and measured_at < clock_timestamp() - interval '1 minute'
), told as (
    update refold.read_latency
       set measured_at = clock_timestamp(), reads = $2, p99_micros = $3
     where api = $1
    returning api
)
insert into refold.read_latency (api, measured_at, reads, p99_micros)
select $1, clock_timestamp(), $2, $3
 where not exists (select from told)
