with moved as (
    update refold.versions set state = 'failed', note = $2, changed_at = clock_timestamp()
        where id = $1
        returning label
)
select refold.audit_append($3, 'fail', m.label, jsonb_build_object('version', $1::bigint, 'reason', $2::text))
from moved m
