select max(p99_micros) filter (where seen.stamp > $1) as p99_micros,
       coalesce(max(seen.stamp), $1) as stamp,
       count(*) > 0 as is_told
  from (select p99_micros, (extract(epoch from measured_at) * 1000000)::int8 as stamp
          from refold.read_latency
         where measured_at > clock_timestamp() - make_interval(secs => $2)
           -- A clock that was set back leaves rows of the future behind.
           and measured_at <= clock_timestamp()) seen
