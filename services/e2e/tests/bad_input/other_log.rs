//! A topic that is missing, or not the one that the version was built from.

use refold_e2e::Mode;
use refold_e2e::Topic;
use refold_e2e::World;

use super::BOUND;
use super::SMALL;
use super::refused;

#[test]
fn a_topic_that_does_not_exist_is_named_and_nothing_is_registered() {
    let world = World::unseeded("missing", SMALL);
    for mode in [Mode::Live, Mode::Replay] {
        let (code, sentence) = refused(&world.projector(mode, "accounts_v3"));
        assert_eq!(code, 3, "{sentence}");
        assert!(sentence.contains(world.topic()), "{sentence}");
        assert!(sentence.contains("does not exist"), "{sentence}");
        assert_eq!(world.state("accounts_v3"), None);
    }
}

#[test]
fn a_topic_that_got_more_partitions_is_refused() {
    let world = World::seeded("grown", SMALL);
    world.replay("accounts_v3");
    let before = world.marks("accounts_v3");
    Topic::on(world.brokers(), world.topic()).grow(6);
    for mode in [Mode::Live, Mode::Replay] {
        let (code, sentence) = refused(&world.projector(mode, "accounts_v3"));
        assert_eq!(code, 3, "{sentence}");
        assert!(sentence.contains("accounts_v3"), "{sentence}");
        assert!(sentence.contains("4 partitions"), "{sentence}");
        assert!(sentence.contains('6'), "{sentence}");
    }
    assert_eq!(world.marks("accounts_v3"), before);
}

#[test]
fn a_topic_of_the_same_name_on_another_cluster_is_refused() {
    let world = World::seeded("cluster", SMALL);
    world.replay("accounts_v3");
    let before = world.marks("accounts_v3");
    let real = world.cell("select cluster_id from refold.versions");
    world.sql("update refold.versions set cluster_id = 'AnotherClusterAltogether'");
    let (code, sentence) = refused(&world.projector(Mode::Live, "accounts_v3"));
    assert_eq!(code, 3, "{sentence}");
    assert!(sentence.contains("AnotherClusterAltogether"), "{sentence}");
    assert!(sentence.contains(&real), "{sentence}");
    assert_eq!(world.marks("accounts_v3"), before);
    world.sql(&format!("update refold.versions set cluster_id = '{real}'"));
    world.replay("accounts_v3");
}

#[test]
fn a_topic_that_was_made_again_is_not_read_on_from_the_old_mark() {
    let world = World::seeded("again", SMALL);
    world.replay("accounts_v3");
    let before = world.marks("accounts_v3");
    let topic = Topic::on(world.brokers(), world.topic());
    topic.delete();
    topic.create(4);
    let mut live = world.projector(Mode::Live, "accounts_v3").start();
    let (code, sentence) = live.refuse(BOUND);
    assert!(matches!(code, 1 | 3), "{sentence}");
    let named = sentence.contains("re-created") || sentence.contains("another log");
    assert!(named, "{sentence}");
    let after = world.marks("accounts_v3");
    let next = |marks: &[refold_e2e::Mark]| marks.iter().map(|m| m.next).collect::<Vec<_>>();
    assert_eq!(next(&after), next(&before));
}
