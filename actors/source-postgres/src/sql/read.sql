-- Events of a partition in [from, end), with the start of the log as the same snapshot has it: a
-- reader below it would take what is left for the whole. No row: the log is not there any more.
select log.low, event.position, event.recorded_at, event.key, event.value
from refold_events.logs log
left join lateral (
    select position, recorded_at, key, value from only {events}
    where partition = $2 and position >= $3 and position < $4
    order by position limit $5
) event on true
where log.id = $1
