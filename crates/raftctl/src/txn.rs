//! The text of a transaction: `if value(a) == "1" && mod(b) < 7 then set b 2; get c else get a`.
//!
//! ```text
//! transaction = [ "if" condition { "&&" condition } ] "then" operations [ "else" operations ]
//! condition   = ( "value" | "version" | "create" | "mod" ) "(" word ")" relation word
//!             | ( "exists" | "absent" ) "(" word ")"
//! relation    = "==" | "!=" | "<" | "<=" | ">" | ">="
//! operations  = [ operation { ";" operation } [ ";" ] ]
//! operation   = "get" word | "set" word word | "del" ( word | "--prefix" word )
//!             | "scan" [ word ] [ "--limit" number ] [ "--keys" ]
//! ```
//!
//! A word is what stands between blanks, or is quoted as on a line of the shell ([`crate::words`]); unquoted it has none of
//! `( ) ; & = ! < > ' "`. Quoted, `"then"` is a word like any other. Errors name the column, counted in bytes from 1.

use bytes::Bytes;
use kv_client::{Comparison, Operation, Relation, Revision, Test, Transaction};

use crate::words;

/// Keys that a `scan` lists unless `--limit` says otherwise.
const DEFAULT_SCAN_LIMIT: u32 = 1_000;

/// What part of the text is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// An unquoted word; it may be one of the grammar.
    Bare,
    /// A word that stands for itself.
    Quoted,
    /// `(`, `)`, `;`, `&&` or a relation.
    Sign(&'static str),
    /// Behind the last part.
    End,
}

/// A part of the text.
#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    word: Vec<u8>,
    column: usize,
}

const SIGNS: [&str; 10] = ["(", ")", ";", "&&", "==", "!=", "<=", ">=", "<", ">"];

/// Reads a transaction.
///
/// # Errors
/// Says at which column what was expected.
pub fn parse(text: &[u8]) -> Result<Transaction, String> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0 };
    let transaction = parser.transaction()?;
    parser.expect_end()?;
    Ok(transaction)
}

fn tokens(text: &[u8]) -> Result<Vec<Token>, String> {
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at) {
        let rest = text.get(at..).unwrap_or_default();
        let column = at + 1;
        if byte.is_ascii_whitespace() {
            at += 1;
        } else if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign.as_bytes())) {
            tokens.push(Token { kind: Kind::Sign(sign), word: sign.into(), column });
            at += sign.len();
        } else if matches!(byte, b'=' | b'&' | b'!') {
            let wanted = if *byte == b'&' { "&&" } else { "== or !=" };
            return Err(format!("column {column}: `{}` alone means nothing; write {wanted}", char::from(*byte)));
        } else {
            let length = word_length(rest);
            let written = rest.get(..length).unwrap_or_default();
            let mut split =
                words::split(written).map_err(|error| format!("in the text from column {column} on: {error}"))?;
            let is_bare = !written.iter().any(|byte| matches!(byte, b'\'' | b'"' | b'\\'));
            let kind = if is_bare { Kind::Bare } else { Kind::Quoted };
            tokens.push(Token { kind, word: split.pop().unwrap_or_default(), column });
            at += length;
        }
    }
    tokens.push(Token { kind: Kind::End, word: Vec::new(), column: text.len() + 1 });
    Ok(tokens)
}

/// How many bytes of `text` are its first word, quotes and all. One that is not closed goes to the end.
fn word_length(text: &[u8]) -> usize {
    let mut quote = None;
    let mut bytes = text.iter().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match (quote, byte) {
            (None, b'\'' | b'"') => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            (None | Some(b'"'), b'\\') => _ = bytes.next(),
            // Within $'..' a backslash takes the quote.
            (Some(b'\''), b'\\') if is_ansi(text, at) => _ = bytes.next(),
            (None, byte) if byte.is_ascii_whitespace() || b"();&=!<>".contains(byte) => return at,
            (_, _) => {}
        }
    }
    text.len()
}

/// Whether the quote that is open at `at` began with `$'`.
fn is_ansi(text: &[u8], at: usize) -> bool {
    let before = text.get(..at).unwrap_or_default();
    let open = before.iter().rposition(|byte| *byte == b'\'');
    open.and_then(|open| open.checked_sub(1)).is_some_and(|dollar| text.get(dollar) == Some(&b'$'))
}

struct Parser {
    /// The last one is [`Kind::End`].
    tokens: Vec<Token>,
    at: usize,
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).or(self.tokens.last()).expect("there is an end")
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }

    fn wrong<T>(&self, wanted: &str) -> Result<T, String> {
        let Token { kind, word, column } = self.peek();
        let found = match kind {
            Kind::End => "the end of the text".to_owned(),
            Kind::Bare | Kind::Quoted | Kind::Sign(_) => format!("`{}`", String::from_utf8_lossy(word).escape_debug()),
        };
        Err(format!("column {column}: expected {wanted}, found {found}"))
    }

    fn is_keyword(&self, keyword: &str) -> bool {
        let token = self.peek();
        token.kind == Kind::Bare && token.word == keyword.as_bytes()
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let found = self.is_keyword(keyword);
        self.at += usize::from(found);
        found
    }

    fn take_sign(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek().kind, Kind::Sign(found) if found == sign);
        self.at += usize::from(found);
        found
    }

    fn expect_sign(&mut self, sign: &str) -> Result<(), String> {
        if self.take_sign(sign) { Ok(()) } else { self.wrong(&format!("`{sign}`")) }
    }

    fn expect_end(&self) -> Result<(), String> {
        if self.peek().kind == Kind::End { Ok(()) } else { self.wrong("`;`, `else` or the end of the text") }
    }

    fn word(&mut self, what: &str) -> Result<Bytes, String> {
        match self.peek().kind {
            Kind::Bare | Kind::Quoted => Ok(self.next().word.into()),
            Kind::Sign(_) | Kind::End => self.wrong(what),
        }
    }

    fn key(&mut self) -> Result<Bytes, String> {
        let column = self.peek().column;
        let key = self.word("a key")?;
        if key.is_empty() { Err(format!("column {column}: a key has at least one byte")) } else { Ok(key) }
    }

    fn number(&mut self, what: &str) -> Result<u64, String> {
        let number = std::str::from_utf8(&self.peek().word).ok().and_then(|word| word.parse().ok());
        match number {
            Some(number) => {
                self.at += 1;
                Ok(number)
            }
            None => self.wrong(what),
        }
    }

    fn transaction(&mut self) -> Result<Transaction, String> {
        let mut comparisons = Vec::new();
        if self.take_keyword("if") {
            comparisons.push(self.condition()?);
            while self.take_sign("&&") {
                comparisons.push(self.condition()?);
            }
        }
        if !self.take_keyword("then") {
            return self.wrong(if comparisons.is_empty() { "`if` or `then`" } else { "`&&` or `then`" });
        }
        let then = self.operations()?;
        let otherwise = if self.take_keyword("else") { self.operations()? } else { Vec::new() };
        Ok(Transaction { comparisons, then, otherwise })
    }

    fn condition(&mut self) -> Result<Comparison, String> {
        const FORMS: &str = "value(KEY), version(KEY), create(KEY), mod(KEY), exists(KEY) or absent(KEY)";
        let name = self.peek().clone();
        if name.kind != Kind::Bare {
            return self.wrong(FORMS);
        }
        let is_known = [&b"value"[..], b"version", b"create", b"mod", b"exists", b"absent"].contains(&&*name.word);
        if !is_known {
            return self.wrong(FORMS);
        }
        self.at += 1;
        self.expect_sign("(")?;
        let key = self.key()?;
        self.expect_sign(")")?;
        let test = match &*name.word {
            b"exists" => Test::Present,
            b"absent" => Test::Absent,
            b"value" => Test::Value(self.relation()?, self.word("a value")?),
            b"version" => Test::Version(self.relation()?, self.number("a number")?),
            b"create" => Test::CreateRevision(self.relation()?, Revision(self.number("a revision")?)),
            _ => Test::ModRevision(self.relation()?, Revision(self.number("a revision")?)),
        };
        Ok(Comparison { key, test })
    }

    fn relation(&mut self) -> Result<Relation, String> {
        let relation = match self.peek().kind {
            Kind::Sign("==") => Relation::Equal,
            Kind::Sign("!=") => Relation::NotEqual,
            Kind::Sign("<") => Relation::Less,
            Kind::Sign("<=") => Relation::LessOrEqual,
            Kind::Sign(">") => Relation::Greater,
            Kind::Sign(">=") => Relation::GreaterOrEqual,
            Kind::Sign(_) | Kind::Bare | Kind::Quoted | Kind::End => {
                return self.wrong("one of == != < <= > >=");
            }
        };
        self.at += 1;
        Ok(relation)
    }

    fn operations(&mut self) -> Result<Vec<Operation>, String> {
        let mut operations = Vec::new();
        while self.peek().kind != Kind::End && !self.is_keyword("else") {
            operations.push(self.operation()?);
            if !self.take_sign(";") {
                break;
            }
        }
        Ok(operations)
    }

    fn operation(&mut self) -> Result<Operation, String> {
        if self.take_keyword("get") {
            Ok(Operation::Get { key: self.key()? })
        } else if self.take_keyword("set") {
            Ok(Operation::Set { key: self.key()?, value: self.word("a value")? })
        } else if self.take_keyword("del") {
            if self.take_keyword("--prefix") {
                return Ok(Operation::DeletePrefix { prefix: self.word("a prefix")? });
            }
            Ok(Operation::Delete { key: self.key()? })
        } else if self.take_keyword("scan") {
            self.scan()
        } else {
            self.wrong("get, set, del or scan")
        }
    }

    fn scan(&mut self) -> Result<Operation, String> {
        let is_flag = |parser: &Self| parser.is_keyword("--limit") || parser.is_keyword("--keys");
        let is_word =
            matches!(self.peek().kind, Kind::Bare | Kind::Quoted) && !is_flag(self) && !self.is_keyword("else");
        let prefix = if is_word { self.word("a prefix")? } else { Bytes::new() };
        let (mut limit, mut keys_only) = (DEFAULT_SCAN_LIMIT, false);
        loop {
            if self.take_keyword("--limit") {
                limit = u32::try_from(self.number("a number of keys")?).unwrap_or(u32::MAX);
            } else if self.take_keyword("--keys") {
                keys_only = true;
            } else {
                return Ok(Operation::Scan { prefix, limit, keys_only });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(key: &str, value: &str) -> Operation {
        Operation::Set { key: key.to_owned().into(), value: value.to_owned().into() }
    }

    fn get(key: &str) -> Operation {
        Operation::Get { key: key.to_owned().into() }
    }

    #[test]
    fn the_example_of_the_help() {
        let transaction = parse(b"if value(a) == \"1\" && mod(b) < 7 then set b 2; get c else get a").unwrap();
        let comparison = |key: &str, test| Comparison { key: key.to_owned().into(), test };
        let comparisons = vec![
            comparison("a", Test::Value(Relation::Equal, "1".into())),
            comparison("b", Test::ModRevision(Relation::Less, Revision(7))),
        ];
        let expected = Transaction { comparisons, then: vec![set("b", "2"), get("c")], otherwise: vec![get("a")] };
        assert_eq!(transaction, expected);
    }

    #[test]
    fn blanks_quotes_and_missing_parts() {
        let then = |text: &str| parse(text.as_bytes()).unwrap().then;
        assert_eq!(then("then set 'a b' \"then;\"; set k 'it''s'"), [set("a b", "then;"), set("k", "its")]);
        assert_eq!(then("then set k $'a\\'\\x41'"), [set("k", "a'A")]);
        assert_eq!(then("then"), []);
        assert_eq!(then("if absent(k)then set k v;"), [set("k", "v")]);
        assert_eq!(then("then set if then"), [set("if", "then")]);
        let scan =
            |prefix: &str, limit, keys_only| Operation::Scan { prefix: prefix.to_owned().into(), limit, keys_only };
        assert_eq!(
            then("then scan; scan p --keys --limit 3; scan --limit 2"),
            [scan("", 1_000, false), scan("p", 3, true), scan("", 2, false)]
        );
        let prefix = |prefix: &str| Operation::DeletePrefix { prefix: prefix.to_owned().into() };
        assert_eq!(
            then("then del --prefix a/; del \"--prefix\""),
            [prefix("a/"), Operation::Delete { key: "--prefix".into() }]
        );
        let transaction = parse(b"if exists(a) then else get a").unwrap();
        assert_eq!((transaction.then, transaction.otherwise), (vec![], vec![get("a")]));
    }

    #[test]
    fn every_relation() {
        for (sign, relation) in [
            ("==", Relation::Equal),
            ("!=", Relation::NotEqual),
            ("<", Relation::Less),
            ("<=", Relation::LessOrEqual),
            (">", Relation::Greater),
            (">=", Relation::GreaterOrEqual),
        ] {
            let text = format!("if version(k){sign}5 && create(k) {sign} 6 then");
            let tests: Vec<Test> =
                parse(text.as_bytes()).unwrap().comparisons.into_iter().map(|one| one.test).collect();
            assert_eq!(tests, [Test::Version(relation, 5), Test::CreateRevision(relation, Revision(6))]);
        }
    }

    /// Text, and what is said of it.
    const REFUSED: &[(&str, &str)] = &[
        ("", "column 1: expected `if` or `then`, found the end of the text"),
        ("get a", "column 1: expected `if` or `then`, found `get`"),
        ("if value(a) == 1", "column 17: expected `&&` or `then`, found the end of the text"),
        ("if value(a) = 1 then", "column 13: `=` alone means nothing; write == or !="),
        ("if value(a) == 1 & exists(b) then", "column 18: `&` alone means nothing; write &&"),
        ("if value a == 1 then", "column 10: expected `(`, found `a`"),
        ("if value() == 1 then", "column 10: expected a key, found `)`"),
        ("if value('') == 1 then", "column 10: a key has at least one byte"),
        ("if value(a == 1 then", "column 12: expected `)`, found `==`"),
        ("if value(a) then", "column 13: expected one of == != < <= > >=, found `then`"),
        ("if mod(a) < x then", "column 13: expected a revision, found `x`"),
        ("if version(a) == -1 then", "column 18: expected a number, found `-1`"),
        (
            "if colour(a) == 1 then",
            "column 4: expected value(KEY), version(KEY), create(KEY), mod(KEY), exists(KEY) or absent(KEY), found `colour`",
        ),
        ("then set a", "column 11: expected a value, found the end of the text"),
        ("then put a 1", "column 6: expected get, set, del or scan, found `put`"),
        ("then get a get b", "column 12: expected `;`, `else` or the end of the text, found `get`"),
        ("then get a else get b else get c", "column 23: expected `;`, `else` or the end of the text, found `else`"),
        ("then scan a --limit x", "column 21: expected a number of keys, found `x`"),
        ("then del --prefix", "column 18: expected a prefix, found the end of the text"),
        ("then ;", "column 6: expected get, set, del or scan, found `;`"),
    ];

    #[test]
    fn errors_name_the_column() {
        for (text, expected) in REFUSED {
            assert_eq!(parse(text.as_bytes()).unwrap_err(), *expected, "{text}");
        }
        let unclosed = parse(b"then set a 'b").unwrap_err();
        assert!(
            unclosed.starts_with("in the text from column 12 on: the ' opened at column 1 is not closed"),
            "{unclosed}"
        );
    }

    #[test]
    fn no_bytes_make_it_panic() {
        let parts: [&[u8]; 12] =
            [b"if", b"then", b"value(", b")", b"'", b"\"", b"\\", b"$'", b"\xff", b" ", b"==", b";"];
        for one in parts {
            for two in parts {
                for three in parts {
                    let _ = parse(&[one, two, three, one].concat());
                }
            }
        }
    }
}
