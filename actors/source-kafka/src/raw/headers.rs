//! What the fetch loop needs to know of the batches in an answer. Nothing of
//! it is trusted: the batches are checked when they are unpacked.

/// Bytes of a batch in front of what its length counts: the base offset and the length.
const LEAD: usize = 12;

/// Bytes up to the end of the leader's epoch.
const THROUGH_EPOCH: usize = 16;

/// The length of the batch at the head of `records`, itself included. `None`
/// when its length is not there or is none.
fn batch_len(records: &[u8]) -> Option<usize> {
    let len: [u8; 4] = records.get(8..LEAD)?.try_into().ok()?;
    let len = usize::try_from(i32::from_be_bytes(len)).ok()?;
    Some(LEAD + len)
}

/// How many bytes the first batch needs, if it was cut off by the size of the answer.
pub(crate) fn cut_off(records: &[u8]) -> Option<usize> {
    if records.is_empty() {
        return None;
    }
    if records.len() < LEAD {
        return Some(LEAD);
    }
    batch_len(records).filter(|len| *len > records.len())
}

/// The leader epoch of the last batch that is there completely.
pub(crate) fn last_epoch(records: &[u8]) -> Option<i32> {
    let mut rest = records;
    let mut last = None;
    while let Some(len) = batch_len(rest) {
        let (Some(batch), Some(behind)) = (rest.get(..len), rest.get(len..)) else {
            break;
        };
        let epoch: [u8; 4] = batch.get(LEAD..THROUGH_EPOCH)?.try_into().ok()?;
        last = Some(i32::from_be_bytes(epoch));
        rest = behind;
    }
    last
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(epoch: i32, body: usize) -> Vec<u8> {
        let mut bytes = 7_i64.to_be_bytes().to_vec();
        bytes.extend((4 + body as i32).to_be_bytes());
        bytes.extend(epoch.to_be_bytes());
        bytes.resize(bytes.len() + body, 9);
        bytes
    }

    #[test]
    fn the_last_complete_batch_tells_the_epoch() {
        let mut records = batch(3, 10);
        records.extend(batch(5, 20));
        assert_eq!(last_epoch(&records), Some(5));
        assert_eq!(last_epoch(&records[..records.len() - 1]), Some(3));
        assert_eq!(last_epoch(&[]), None);
        assert_eq!(last_epoch(&[0xff; 40]), None);
    }

    #[test]
    fn a_first_batch_that_was_cut_off_tells_what_it_needs() {
        let records = batch(3, 100);
        assert_eq!(cut_off(&records), None);
        assert_eq!(cut_off(&records[..50]), Some(records.len()));
        assert_eq!(cut_off(&records[..5]), Some(LEAD));
        assert_eq!(cut_off(&[]), None);
        assert_eq!(cut_off(&[0xff; 40]), None, "no length, no wish");
    }
}
