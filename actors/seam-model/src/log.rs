//! The log of the model: two partitions of a few records, with a hole and a trailing marker.

/// Number of partitions.
pub(crate) const PARTITIONS: usize = 2;
/// The most records of a partition.
pub(crate) const RECORDS: usize = 3;

/// Offsets of the records. Offset 1 of the first partition is a hole, as an aborted
/// transaction leaves it.
const OFFSETS: [&[u8]; PARTITIONS] = [&[0, 2], &[0, 1, 2]];

/// End of the log before and after it grows. Offset 3 of the first partition is a marker:
/// a position that follows records never passes it.
const ENDS: [[u8; 2]; PARTITIONS] = [[1, 4], [1, 3]];

/// The end of a partition's log, exclusive.
pub(crate) const fn end(partition: usize, grown: bool) -> u8 {
    ENDS[partition][grown as usize]
}

/// The offset of a record; `None` when the partition has fewer.
pub(crate) fn offset(partition: usize, record: usize) -> Option<u8> {
    OFFSETS[partition].get(record).copied()
}

/// The records of `[from, to)`.
pub(crate) fn inside(partition: usize, from: u8, to: u8) -> impl Iterator<Item = usize> {
    let offsets = OFFSETS[partition].iter().enumerate();
    let inside = offsets.filter(move |(_, offset)| (from..to).contains(*offset));
    inside.map(|(record, _)| record)
}

/// How often each record counts when everything below `to` is applied once.
pub(crate) fn once_below(partition: usize, to: u8) -> [u8; RECORDS] {
    let mut counts = [0; RECORDS];
    for record in inside(partition, 0, to) {
        counts[record] = 1;
    }
    counts
}

/// The position behind the last record of the log: where a batch that ends with it puts the mark.
pub(crate) fn last_position(partition: usize, grown: bool) -> u8 {
    let offsets = OFFSETS[partition].iter();
    let mut there = offsets.filter(|offset| **offset < end(partition, grown));
    there.next_back().map_or(0, |offset| offset + 1)
}
