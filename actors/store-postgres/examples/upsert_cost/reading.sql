select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint as lsn,
       (select wal_fpi from pg_stat_wal) as images,
       pg_backend_pid() as pid,
       n_tup_hot_upd as hot,
       n_tup_upd as updated
from pg_stat_user_tables
where relname = 'account'
