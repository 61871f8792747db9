//! A configuration on disk: in an entry, a snapshot's description, and the formation.
//! ```text
//! count of members (4), then each in rising order of id:
//!     id (8), disk id (16), size of the address (4), address (UTF-8)
//! if not all of them vote in all there is, then for each in the same order its standing (1):
//!     0 voter, 1 incoming, 2 outgoing, 3 and 4 outgoing and a learner afterwards, 5 and 6 learner;
//!     4 and 6 become voters by themselves; after 3 and 4 the learner's disk id (16), size of its address (4), address
//! ```
//! A configuration ends what it stands in. So the first version's, which knew voters only, is one without standings.

use raft_core::{Configuration, DiskId, Learner, Member, NodeId, Standing};

use crate::codec::Fields;

const VOTER: u8 = 0;
const INCOMING: u8 = 1;
const OUTGOING: u8 = 2;
const OUTGOING_THEN_LEARNER: u8 = 3;
const OUTGOING_THEN_VOTER_TO_BE: u8 = 4;
const LEARNER: u8 = 5;
const VOTER_TO_BE: u8 = 6;

/// Appends the configuration to what it ends.
pub(crate) fn encode_configuration(configuration: &Configuration, bytes: &mut Vec<u8>) {
    let count = u32::try_from(configuration.members().count()).expect("a cluster has few members");
    bytes.extend_from_slice(&count.to_le_bytes());
    for (id, member) in configuration.members() {
        bytes.extend_from_slice(&id.as_u64().to_le_bytes());
        encode_member(member, bytes);
    }
    if configuration.standings().all(|(_, _, standing)| *standing == Standing::Voter) {
        return;
    }
    for (_, _, standing) in configuration.standings() {
        encode_standing(standing, bytes);
    }
}

fn encode_member(member: &Member, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&member.disk.0.to_le_bytes());
    let address_bytes = u32::try_from(member.address.len()).expect("an address is short");
    bytes.extend_from_slice(&address_bytes.to_le_bytes());
    bytes.extend_from_slice(member.address.as_bytes());
}

fn encode_standing(standing: &Standing, bytes: &mut Vec<u8>) {
    bytes.push(match standing {
        Standing::Voter => VOTER,
        Standing::Incoming => INCOMING,
        Standing::Outgoing { then: None } => OUTGOING,
        Standing::Outgoing { then: Some(Learner { becomes_voter: false, .. }) } => OUTGOING_THEN_LEARNER,
        Standing::Outgoing { then: Some(Learner { becomes_voter: true, .. }) } => OUTGOING_THEN_VOTER_TO_BE,
        Standing::Learner { becomes_voter: false } => LEARNER,
        Standing::Learner { becomes_voter: true } => VOTER_TO_BE,
    });
    if let Standing::Outgoing { then: Some(learner) } = standing {
        encode_member(&learner.member, bytes);
    }
}

/// Reads what [`encode_configuration`] wrote, to the end; `None` if it is anything else.
pub(crate) fn take_configuration(fields: &mut Fields<'_>) -> Option<Configuration> {
    let mut members: Vec<(NodeId, Member)> = Vec::new();
    let count = fields.take_u32()?;
    for _ in 0..count {
        let id = NodeId::new(fields.take_u64()?)?;
        if members.last().is_some_and(|(last, _)| *last >= id) {
            return None;
        }
        members.push((id, take_member(fields)?));
    }
    if fields.is_empty() {
        return Some(Configuration::of_voters(members));
    }
    let mut standings = Vec::new();
    for _ in &members {
        standings.push(take_standing(fields)?);
    }
    let with_standing = members.into_iter().zip(standings).map(|((id, member), standing)| (id, (member, standing)));
    Configuration::new(with_standing.collect()).ok()
}

fn take_member(fields: &mut Fields<'_>) -> Option<Member> {
    let disk = DiskId(fields.take_u128()?);
    let address_bytes = usize::try_from(fields.take_u32()?).ok()?;
    let address = std::str::from_utf8(fields.take_bytes(address_bytes)?).ok()?.to_owned();
    Some(Member { disk, address })
}

fn take_standing(fields: &mut Fields<'_>) -> Option<Standing> {
    Some(match fields.take_u8()? {
        VOTER => Standing::Voter,
        INCOMING => Standing::Incoming,
        OUTGOING => Standing::Outgoing { then: None },
        kind @ (OUTGOING_THEN_LEARNER | OUTGOING_THEN_VOTER_TO_BE) => {
            let becomes_voter = kind == OUTGOING_THEN_VOTER_TO_BE;
            Standing::Outgoing { then: Some(Learner { member: take_member(fields)?, becomes_voter }) }
        }
        LEARNER => Standing::Learner { becomes_voter: false },
        VOTER_TO_BE => Standing::Learner { becomes_voter: true },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_standing() -> Configuration {
        let member = |disk: u128| Member { disk: DiskId(disk), address: format!("h{disk}:1") };
        let then = |becomes_voter| Some(Learner { member: member(99), becomes_voter });
        let standings = [
            Standing::Voter,
            Standing::Incoming,
            Standing::Outgoing { then: None },
            Standing::Outgoing { then: then(false) },
            Standing::Outgoing { then: then(true) },
            Standing::Learner { becomes_voter: false },
            Standing::Learner { becomes_voter: true },
        ];
        let members = (1_u64..).zip(standings);
        let members = members.map(|(id, standing)| (NodeId::new(id).unwrap(), (member(id.into()), standing)));
        Configuration::new(members.collect()).unwrap()
    }

    fn encoded(configuration: &Configuration) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode_configuration(configuration, &mut bytes);
        bytes
    }

    fn decoded(bytes: &[u8]) -> Option<Configuration> {
        let mut fields = Fields::new(bytes);
        take_configuration(&mut fields).filter(|_| fields.is_empty())
    }

    #[test]
    fn every_standing_comes_back() {
        let configuration = every_standing();
        let bytes = encoded(&configuration);
        assert_eq!(decoded(&bytes), Some(configuration));
        // The format for ever (rule 11): seven members of 32 bytes, then their standings.
        let then = [&[99][..], &[0; 15], &[5, 0, 0, 0], b"h99:1"].concat();
        let standings = [&[0, 1, 2, 3][..], &then, &[4], &then, &[5, 6]].concat();
        let first = [&[7, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1][..], &[0; 15], &[4, 0, 0, 0], b"h1:1"].concat();
        assert_eq!((&bytes[..first.len()], &bytes[4 + 7 * 32..]), (&first[..], &standings[..]));
        assert_eq!(decoded(&encoded(&Configuration::default())), Some(Configuration::default()));
    }

    #[test]
    fn what_is_cut_or_changed_is_refused_or_another_configuration() {
        let (configuration, bytes) = (every_standing(), encoded(&every_standing()));
        for end in 0..bytes.len() {
            // Cut right after the members it reads as the first version's.
            let found = decoded(&bytes[..end]);
            assert!(found.as_ref() != Some(&configuration), "cut at {end}");
            assert!(found.is_none_or(|found| found.voters().count() == found.members().count()), "cut at {end}");
        }
        for at in 0..bytes.len() {
            for flipped in [1, 0x80, 0xff] {
                let mut changed = bytes.clone();
                changed[at] ^= flipped;
                assert_ne!(decoded(&changed), Some(configuration.clone()), "byte {at} ^ {flipped}");
            }
        }
        let nobody_votes = [
            encoded(&Configuration::of_voters([(
                NodeId::new(1).unwrap(),
                Member { disk: DiskId(1), address: String::new() },
            )])),
            vec![LEARNER],
        ]
        .concat();
        assert_eq!(decoded(&nobody_votes), None);
    }
}
