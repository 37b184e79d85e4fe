-- The commit of this transaction waits until the synchronous standbys show it, if the server has
-- some: before, nobody on any node sees the switch.
select promotion, generation, switched_at,
    set_config(
        'synchronous_commit',
        case when current_setting('synchronous_standby_names') = '' then 'on' else 'remote_apply' end,
        true) = 'remote_apply' as awaits_standby
from refold.switch_active($1, $2, $3, $4, $5, $6, $7)
