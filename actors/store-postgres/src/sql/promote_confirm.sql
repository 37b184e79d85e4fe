-- Something to wait for: a standby gets the log in its order, so one that shows this has all that
-- was committed before. A transaction that writes nothing would not wait.
select pg_logical_emit_message(true, 'refold', 'confirm') is not null as written,
    set_config(
        'synchronous_commit',
        case when current_setting('synchronous_standby_names') = '' then 'on' else 'remote_apply' end,
        true) = 'remote_apply' as awaits_standby
