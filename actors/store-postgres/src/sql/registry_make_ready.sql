-- The caller holds the version's row lock and has seen it building and complete.
with moved as (
    update refold.versions
        set state = 'ready', changed_at = clock_timestamp(),
            note = case when $2 then note
                else 'the view was not created: public has another relation of this name' end
        where id = $1
        returning label
)
select refold.audit_append($3, 'ready', m.label, jsonb_build_object('version', $1::bigint))
from moved m
