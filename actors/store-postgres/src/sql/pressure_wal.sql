select sum(segment.size)::int8 as wal
from pg_ls_waldir() segment
where segment.name ~ '^[0-9A-F]{24}$'
  and substr(segment.name, 9) <= substr(pg_walfile_name(pg_current_wal_lsn()), 9)
