select
    pg_has_role('pg_read_all_stats', 'usage') as sees_standbys,
    has_function_privilege('pg_ls_waldir()', 'execute') as sees_wal,
    (select max(greatest(pg_wal_lsn_diff(here.lsn, standby.replay_lsn), 0))::int8
       from pg_stat_replication standby
      where not exists (
          select from pg_replication_slots slot
           where slot.active_pid = standby.pid and slot.slot_type = 'logical')
    ) as replay_lag,
    (select max(greatest(pg_wal_lsn_diff(here.lsn, slot.restart_lsn), 0))::int8
       from pg_replication_slots slot
      where slot.wal_status is distinct from 'lost'
    ) as slot_wal
from (select pg_current_wal_lsn() as lsn) here
