//! Arguments as predictors see them: an event taken apart into its shape and its scalars, which give the event back.
//!
//! A shape is everything of an event but its scalars: names, nesting, and for each scalar its type and, for dates and times,
//! the form they are written in. Events that are too deep, too wide or too long are opaque: kept whole, known by their hash,
//! good only for predictors that look for the same event again.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use serde_json::{Number, Value};

use super::moment::Layout;
use super::scalar::{Kind, Scalar, hash_scalar, scalar_bytes};

/// Scalars of an event at most; one with more is opaque.
pub const FIELDS_MAX: usize = 16;
/// Elements of an array at most.
const ELEMENTS_MAX: usize = 8;
/// Arrays and objects inside each other at most.
const DEPTH_MAX: usize = 4;
/// Bytes of one text at most.
const TEXT_MAX_BYTES: usize = 256;
/// Bytes of all names and texts together at most.
const TEXTS_MAX_BYTES: usize = 1_024;
/// Bytes of an opaque event at most, as counted by `weight`; one above is not kept at all.
const OPAQUE_MAX_BYTES: usize = 2_048;
/// A hasher with a fixed seed, so that a run can be repeated.
pub(super) type FixedHasher = BuildHasherDefault<DefaultHasher>;

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Scalar(Kind),
    Object(Vec<(Box<str>, Node)>),
    Array(Vec<Node>),
}

/// What events of one shape have in common.
#[derive(Debug, PartialEq)]
pub struct Shape {
    node: Node,
    /// In the order of [`Shape::render`]'s scalars.
    kinds: Vec<Kind>,
    hash: u64,
}

impl Shape {
    /// Takes an event apart. `None` where it is opaque.
    #[must_use]
    pub fn flatten(event: &Value) -> Option<(Self, Vec<Scalar>)> {
        let mut reader = Reader::new();
        reader.read(event, 0)?;
        Some((Self::of(event, &reader), reader.scalars))
    }

    fn of(event: &Value, reader: &Reader) -> Self {
        let mut kinds = reader.kinds.iter();
        Self { node: node(event, &mut kinds), kinds: reader.kinds.clone(), hash: reader.hasher.finish() }
    }

    /// The event of these scalars, equal to the one a caller would send. Missing scalars are null.
    #[must_use]
    pub fn render(&self, scalars: &[Scalar]) -> Value {
        render(&self.node, &mut scalars.iter())
    }

    /// What its scalars are, in order.
    #[must_use]
    pub fn kinds(&self) -> &[Kind] {
        &self.kinds
    }

    /// Where its scalars are, as JSON pointers, in order.
    #[must_use]
    pub fn pointers(&self) -> Vec<String> {
        let mut pointers = Vec::with_capacity(self.kinds.len());
        point(&self.node, String::new(), &mut pointers);
        pointers
    }

    pub(super) const fn hash(&self) -> u64 {
        self.hash
    }

    /// Bytes held, about.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>() + self.kinds.capacity() * size_of::<Kind>() + node_bytes(&self.node)
    }
}

/// One event's arguments. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Arguments {
    hash: u64,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Fields {
        shape: Arc<Shape>,
        scalars: Arc<[Scalar]>,
    },
    Opaque(Arc<Value>),
    /// Too large to keep.
    Gone,
}

impl Arguments {
    /// Of scalars that a predictor put together.
    pub(super) fn of_scalars(shape: &Arc<Shape>, scalars: Vec<Scalar>) -> Self {
        let hash = hash_of(shape.hash, &scalars);
        Self { hash, content: Content::Fields { shape: Arc::clone(shape), scalars: scalars.into() } }
    }

    /// Of an event; the shape is one of `shapes` where it is known, a new one that is added where there is room.
    pub(super) fn read(event: &Value, shapes: &mut Vec<Arc<Shape>>, shapes_max: usize) -> Self {
        let mut reader = Reader::new();
        if reader.read(event, 0).is_some() {
            let hash = reader.hasher.finish();
            let known = shapes.iter().find(|shape| shape.hash == hash).map(Arc::clone);
            let shape = known.or_else(|| {
                (shapes.len() < shapes_max).then(|| {
                    let shape = Arc::new(Shape::of(event, &reader));
                    shapes.push(Arc::clone(&shape));
                    shape
                })
            });
            if let Some(shape) = shape {
                return Self::of_scalars(&shape, reader.scalars);
            }
        }
        let hash = FixedHasher::default().hash_one(event);
        let small = weight(event) <= OPAQUE_MAX_BYTES;
        Self { hash, content: if small { Content::Opaque(Arc::new(event.clone())) } else { Content::Gone } }
    }

    /// The event. `None` where it was too large to keep.
    #[must_use]
    pub fn event(&self) -> Option<Value> {
        match &self.content {
            Content::Fields { shape, scalars } => Some(shape.render(scalars)),
            Content::Opaque(event) => Some(Value::clone(event)),
            Content::Gone => None,
        }
    }

    /// Equal events have equal hashes.
    #[must_use]
    pub const fn hash(&self) -> u64 {
        self.hash
    }

    pub(super) fn fields(&self) -> Option<(&Arc<Shape>, &[Scalar])> {
        match &self.content {
            Content::Fields { shape, scalars } => Some((shape, scalars)),
            Content::Opaque(_) | Content::Gone => None,
        }
    }

    /// Bytes that keeping it takes, about.
    pub(super) fn bytes(&self) -> usize {
        size_of::<Self>()
            + match &self.content {
                Content::Fields { scalars, .. } => scalars.iter().map(scalar_bytes).sum(),
                Content::Opaque(event) => weight(event),
                Content::Gone => 0,
            }
    }
}

/// The hash of scalars of a shape.
pub(super) fn hash_of(shape: u64, scalars: &[Scalar]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write_u64(shape);
    scalars.iter().for_each(|scalar| hash_scalar(scalar, &mut hasher));
    hasher.finish()
}

/// Bytes that a value takes in memory, about.
fn weight(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(values) => values.iter().map(weight).sum(),
            Value::Object(members) => {
                members.iter().map(|(name, value)| size_of::<String>() + name.len() + weight(value)).sum()
            }
        }
}

/// Reads scalars and kinds, and hashes everything else.
struct Reader {
    scalars: Vec<Scalar>,
    kinds: Vec<Kind>,
    hasher: DefaultHasher,
    texts_bytes: usize,
}

impl Reader {
    fn new() -> Self {
        Self {
            scalars: Vec::with_capacity(4),
            kinds: Vec::with_capacity(4),
            hasher: DefaultHasher::new(),
            texts_bytes: 0,
        }
    }

    fn read(&mut self, value: &Value, depth: usize) -> Option<()> {
        let (kind, scalar) = match value {
            Value::Null => (Kind::Null, Scalar::Nothing),
            Value::Bool(bool) => (Kind::Bool, Scalar::Bool(*bool)),
            Value::Number(number) => number_of(number)?,
            Value::String(text) if text.len() > TEXT_MAX_BYTES => return None,
            Value::String(text) => match Layout::read(text) {
                Some((layout, position)) => (Kind::Moment(layout), Scalar::Integer(position)),
                None => {
                    self.texts_bytes += text.len();
                    (self.texts_bytes <= TEXTS_MAX_BYTES).then_some(())?;
                    (Kind::Text, Scalar::Text(text.as_str().into()))
                }
            },
            Value::Array(values) if values.is_empty() => (Kind::EmptyArray, Scalar::Nothing),
            Value::Object(members) if members.is_empty() => (Kind::EmptyObject, Scalar::Nothing),
            Value::Array(values) => {
                (depth < DEPTH_MAX && values.len() <= ELEMENTS_MAX).then_some(())?;
                self.hasher.write_u8(b'[');
                values.iter().try_for_each(|value| self.read(value, depth + 1))?;
                self.hasher.write_u8(b']');
                return Some(());
            }
            Value::Object(members) => {
                (depth < DEPTH_MAX && members.len() <= FIELDS_MAX).then_some(())?;
                self.hasher.write_u8(b'{');
                for (name, value) in members {
                    self.texts_bytes += name.len();
                    (self.texts_bytes <= TEXTS_MAX_BYTES).then_some(())?;
                    name.hash(&mut self.hasher);
                    self.read(value, depth + 1)?;
                }
                self.hasher.write_u8(b'}');
                return Some(());
            }
        };
        (self.scalars.len() < FIELDS_MAX).then_some(())?;
        kind.hash(&mut self.hasher);
        self.kinds.push(kind);
        self.scalars.push(scalar);
        Some(())
    }
}

fn number_of(number: &Number) -> Option<(Kind, Scalar)> {
    if let Some(number) = number.as_i64() {
        return Some((Kind::Integer, Scalar::Integer(number)));
    }
    if let Some(number) = number.as_u64() {
        return Some((Kind::Unsigned, Scalar::Unsigned(number)));
    }
    number.as_f64().map(|number| (Kind::Float, Scalar::Float(number)))
}

fn node(value: &Value, kinds: &mut std::slice::Iter<'_, Kind>) -> Node {
    match value {
        Value::Array(values) if !values.is_empty() => {
            Node::Array(values.iter().map(|value| node(value, kinds)).collect())
        }
        Value::Object(members) if !members.is_empty() => {
            Node::Object(members.iter().map(|(name, value)| (name.as_str().into(), node(value, kinds))).collect())
        }
        _ => Node::Scalar(kinds.next().copied().unwrap_or(Kind::Null)),
    }
}

fn render(node: &Node, scalars: &mut std::slice::Iter<'_, Scalar>) -> Value {
    match node {
        Node::Array(nodes) => Value::Array(nodes.iter().map(|node| render(node, scalars)).collect()),
        Node::Object(members) => {
            Value::Object(members.iter().map(|(name, node)| (name.to_string(), render(node, scalars))).collect())
        }
        Node::Scalar(kind) => match (kind, scalars.next()) {
            (Kind::EmptyArray, _) => Value::Array(Vec::new()),
            (Kind::EmptyObject, _) => Value::Object(serde_json::Map::new()),
            (Kind::Moment(layout), Some(Scalar::Integer(position))) => Value::from(layout.write(*position)),
            (_, Some(Scalar::Bool(bool))) => Value::from(*bool),
            (_, Some(Scalar::Integer(number))) => Value::from(*number),
            (_, Some(Scalar::Unsigned(number))) => Value::from(*number),
            (_, Some(Scalar::Float(number))) => Value::from(*number),
            (_, Some(Scalar::Text(text))) => Value::from(&**text),
            (_, Some(Scalar::Nothing) | None) => Value::Null,
        },
    }
}

fn node_bytes(node: &Node) -> usize {
    match node {
        Node::Scalar(_) => 0,
        Node::Array(nodes) => nodes.iter().map(|node| size_of::<Node>() + node_bytes(node)).sum(),
        Node::Object(members) => {
            members.iter().map(|(name, node)| size_of::<(Box<str>, Node)>() + name.len() + node_bytes(node)).sum()
        }
    }
}

fn point(node: &Node, at: String, pointers: &mut Vec<String>) {
    match node {
        Node::Scalar(_) => pointers.push(at),
        Node::Array(nodes) => {
            nodes.iter().enumerate().for_each(|(index, node)| point(node, format!("{at}/{index}"), pointers));
        }
        Node::Object(members) => {
            for (name, node) in members {
                point(node, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), pointers);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn an_event_comes_back_type_by_type() {
        for event in [
            json!(1),
            json!(1.0),
            json!("1"),
            json!(true),
            json!(null),
            json!({}),
            json!([]),
            json!(u64::MAX),
            json!(-0.1),
            json!({"day": "2026-02-28", "at": "08:30", "deep": {"none": null, "list": [1, 1.5, "x", {}]}}),
        ] {
            let (shape, scalars) = Shape::flatten(&event).unwrap();
            assert_eq!(shape.render(&scalars).to_string(), event.to_string());
            for (pointer, kind) in shape.pointers().iter().zip(shape.kinds()) {
                let value = event.pointer(pointer).unwrap();
                assert_eq!(*kind == Kind::Null, value.is_null(), "{pointer}");
            }
        }
        let shapes = |one: Value, other: Value| Shape::flatten(&one).unwrap().0 == Shape::flatten(&other).unwrap().0;
        assert!(shapes(json!({"a": 1, "b": "x"}), json!({"a": 2, "b": "y"})));
        assert!(!shapes(json!({"a": 1}), json!({"a": 1.0})));
        assert!(!shapes(json!({"a": 1}), json!({"b": 1})));
        assert!(!shapes(json!([[1], 2]), json!([[1, 2]])));
    }

    #[test]
    fn what_is_too_deep_or_too_wide_is_opaque_and_comes_back_all_the_same() {
        let wide: Value =
            (0..20).map(|index| (index.to_string(), json!(index))).collect::<serde_json::Map<_, _>>().into();
        for event in [json!([[[[[1]]]]]), wide, json!("x".repeat(300)), json!([1, 2, 3, 4, 5, 6, 7, 8, 9])] {
            assert_eq!(Shape::flatten(&event), None);
            assert_eq!(Arguments::read(&event, &mut Vec::new(), 4).event(), Some(event));
        }
        let large = json!("x".repeat(OPAQUE_MAX_BYTES));
        assert_eq!(Arguments::read(&large, &mut Vec::new(), 4).event(), None);
    }

    fn event() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            "[a-z~/0-9]{0,12}".prop_map(Value::from),
            "20[0-9]{2}-[01][0-9]-[0-3][0-9]".prop_map(Value::from),
            "[012][0-9]:[0-5][0-9]".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-d/~]{0,3}", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn taking_apart_and_putting_together_changes_nothing(event in event()) {
            if let Some((shape, scalars)) = Shape::flatten(&event) {
                prop_assert_eq!(shape.render(&scalars), event.clone());
                prop_assert_eq!(shape.kinds().len(), scalars.len());
                for (kind, scalar) in shape.kinds().iter().zip(&scalars) {
                    if let Some(position) = kind.position(scalar) {
                        prop_assert_eq!(kind.scalar(position), Some(scalar.clone()));
                    }
                }
            }
            prop_assert_eq!(Arguments::read(&event, &mut Vec::new(), 1).event(), Some(event));
        }
    }
}
