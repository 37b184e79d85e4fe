-- Of a finished scan: forgets rows whose place others took, and all rows of the scans of the
-- same versions before it.
delete from refold.scan_rows r
using refold.verifications s, refold.verifications mine
where mine.id = $1 and s.id = r.scan
    and ((s.id = mine.id and r.rank > $2)
        or (s.started_at < mine.started_at and s.version_from + s.version_to = mine.version_from + mine.version_to
            and s.version_from in (mine.version_from, mine.version_to)))
