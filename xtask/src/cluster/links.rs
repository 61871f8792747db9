//! The links between the nodes, and what is cut of them.
//!
//! A server dials each of its peers and only ever sends on what it dialled (ADR 0006). Each of these directed links goes
//! through a proxy of its own ([`super::proxy`]), by way of `--dial`: so each direction can be cut by itself, without
//! root and without the servers knowing. Clients reach the nodes at their own addresses, cut or not.
//!
//! The proxies are there from the start, also if nothing is ever cut: a running server cannot be told to dial somewhere
//! else. They and the cuts last as long as the supervisor, whatever becomes of the servers.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::place::Formation;
use super::proxy::Proxy;

/// One server's way to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Link {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

impl Link {
    fn reversed(self) -> Self {
        Self { from: self.to, to: self.from }
    }
}

/// What can be cut at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Cut {
    /// Both ways between two nodes, `A-B`.
    Between(u64, u64),
    /// One way, `A>B`: what A sends to B.
    OneWay(Link),
    /// Both ways between a node and all others.
    Around(u64),
}

impl Cut {
    /// The nodes it names.
    pub(crate) fn nodes(self) -> Vec<u64> {
        match self {
            Self::Between(one, other) => vec![one, other],
            Self::OneWay(link) => vec![link.from, link.to],
            Self::Around(id) => vec![id],
        }
    }

    fn meets(self, link: Link) -> bool {
        match self {
            Self::Between(from, to) => [link, link.reversed()].contains(&Link { from, to }),
            Self::OneWay(cut) => link == cut,
            Self::Around(id) => link.from == id || link.to == id,
        }
    }

    /// What it does, in words.
    pub(crate) fn effect(self) -> String {
        match self {
            Self::Between(one, other) => format!("nodes {one} and {other} do not reach each other"),
            Self::OneWay(Link { from, to }) => format!("what node {from} sends to node {to} does not arrive"),
            Self::Around(id) => format!("node {id} and its peers do not reach each other; clients reach all of them"),
        }
    }
}

impl FromStr for Cut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || "expected two nodes' ids: `1-2` for both ways, `'1>2'` (in quotes) for what 1 sends to 2";
        let place = text.find(['-', '>']).ok_or_else(expected)?;
        let (from, rest) = text.split_at(place);
        let (way, to) = rest.split_at(1);
        let id = |text: &str| text.parse().map_err(|_| expected());
        let (from, to): (u64, u64) = (id(from)?, id(to)?);
        if from == to {
            return Err(format!("node {from} has no link to itself; name two different nodes"));
        }
        Ok(if way == ">" { Self::OneWay(Link { from, to }) } else { Self::Between(from, to) })
    }
}

/// What is cut, in the words that `cut` takes; `None` if nothing is.
pub(crate) fn in_words(cut: &BTreeSet<Link>) -> Option<String> {
    let word = |link: &Link| {
        let Link { from, to } = link;
        match cut.contains(&link.reversed()) {
            true if from < to => Some(format!("{from}-{to}")),
            // Said already, in the line above.
            true => None,
            false => Some(format!("{from}>{to}")),
        }
    };
    let words: Vec<String> = cut.iter().filter_map(word).collect();
    (!words.is_empty()).then(|| words.join(", "))
}

/// The proxies of a cluster.
pub(crate) struct Links {
    proxies: BTreeMap<Link, Proxy>,
}

impl Links {
    /// Opens a proxy for each link.
    ///
    /// # Errors
    /// If the system is out of ports, threads or file descriptors.
    pub(crate) fn open(formation: &Formation) -> Result<Self> {
        let mut proxies = BTreeMap::new();
        for (&to, address) in &formation.nodes {
            let target: SocketAddr =
                address.parse().with_context(|| format!("{address}, the address of node {to}, is none"))?;
            for &from in formation.nodes.keys().filter(|from| **from != to) {
                let proxy = Proxy::open(format!("link {from}>{to}"), target)
                    .with_context(|| format!("the link from node {from} to node {to} cannot be opened"))?;
                proxies.insert(Link { from, to }, proxy);
            }
        }
        Ok(Self { proxies })
    }

    /// The value of a node's `--dial`; `None` for a node without peers.
    pub(crate) fn dial_list(&self, id: u64) -> Option<String> {
        let own = self.proxies.iter().filter(|(link, _)| link.from == id);
        let items: Vec<String> = own.map(|(link, proxy)| format!("{}={}", link.to, proxy.address())).collect();
        (!items.is_empty()).then(|| items.join(","))
    }

    /// Cuts what is not cut yet. Once this returns nothing gets through.
    ///
    /// # Errors
    /// If there is no such link.
    pub(crate) fn cut(&mut self, cut: Cut) -> Result<()> {
        let met: Vec<&mut Proxy> =
            self.proxies.iter_mut().filter(|(link, _)| cut.meets(**link)).map(|(_, proxy)| proxy).collect();
        if met.is_empty() {
            bail!("there is nothing to cut: the cluster has one node only");
        }
        met.into_iter().try_for_each(Proxy::cut)
    }

    /// Mends all.
    ///
    /// # Errors
    /// If a proxy has ended.
    pub(crate) fn heal(&mut self) -> Result<()> {
        self.proxies.values_mut().try_for_each(Proxy::heal)
    }

    /// What is cut.
    pub(crate) fn all_cut(&self) -> BTreeSet<Link> {
        self.proxies.iter().filter(|(_, proxy)| proxy.is_cut()).map(|(link, _)| *link).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Links {
        // Nobody is dialled here.
        Links::open(&Formation { nodes: (1..=3).map(|id| (id, format!("127.0.0.1:{id}"))).collect() }).unwrap()
    }

    #[test]
    fn the_words_for_a_cut_are_read_and_refused() {
        assert_eq!("1-3".parse(), Ok(Cut::Between(1, 3)));
        assert_eq!("3>1".parse(), Ok(Cut::OneWay(Link { from: 3, to: 1 })));
        for bad in ["", "1", "1-", "-2", ">", "1-2-3", "1->2", "1>>2", "1<2", "a-b", "leader-2", "1 - 2", "1,2"] {
            assert!(bad.parse::<Cut>().unwrap_err().contains("expected two nodes' ids"), "{bad:?}");
        }
        for same in ["2-2", "2>2"] {
            assert!(same.parse::<Cut>().unwrap_err().contains("no link to itself"), "{same:?}");
        }
    }

    #[test]
    fn a_cut_meets_its_links_and_no_others_and_is_told_in_its_own_words() {
        let links = [("1-2", "1-2"), ("2-1", "1-2"), ("2>1", "2>1"), ("1>3", "1>3")];
        let cuts = links.map(|(cut, words)| (cut.parse().unwrap(), words));
        for (cut, words) in cuts.into_iter().chain([(Cut::Around(2), "1-2, 2-3"), (Cut::Around(3), "1-3, 2-3")]) {
            let mut links = three();
            assert_eq!(in_words(&links.all_cut()), None);
            links.cut(cut).unwrap();
            assert_eq!(in_words(&links.all_cut()).as_deref(), Some(words), "{cut:?}");
            links.heal().unwrap();
            assert_eq!(in_words(&links.all_cut()), None);
        }
    }

    #[test]
    fn cuts_add_up() {
        let mut links = three();
        for (cut, words) in [("3>1", "3>1"), ("1>2", "1>2, 3>1"), ("1-3", "1>2, 1-3"), ("2>1", "1-2, 1-3")] {
            links.cut(cut.parse().unwrap()).unwrap();
            assert_eq!(in_words(&links.all_cut()).as_deref(), Some(words));
        }
    }

    #[test]
    fn each_node_dials_each_peer_at_an_address_of_its_own() {
        let links = three();
        let lists: Vec<String> = (1..=3).filter_map(|id| links.dial_list(id)).collect();
        assert!(lists[1].starts_with("1=127.0.0.1:") && lists[1].contains(",3=127.0.0.1:"), "{lists:?}");
        let addresses: BTreeSet<SocketAddr> = links.proxies.values().map(Proxy::address).collect();
        assert_eq!((lists.len(), addresses.len()), (3, 6));
    }

    #[test]
    fn a_node_without_peers_has_nothing_to_dial_or_to_cut() {
        let mut links = Links::open(&Formation { nodes: [(1, "127.0.0.1:1".to_owned())].into() }).unwrap();
        assert_eq!(links.dial_list(1), None);
        assert!(links.cut(Cut::Around(1)).unwrap_err().to_string().contains("one node only"));
    }
}
