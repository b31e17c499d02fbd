//! From a call's event to what predictors see of it, and from what they predict back to an event.

use raas_core::JsonPointer;
use serde_json::{Map, Value};

/// What decides a call's result: all of the event, or what the author's pointers name of it. Nothing where a pointer leads
/// through an array or to the whole: predictors would see something else than the code.
pub fn decisive(event: &Value, pointers: Option<&[JsonPointer]>) -> Option<Value> {
    let Some(pointers) = pointers else { return Some(event.clone()) };
    let mut decisive = Map::new();
    for pointer in pointers {
        if leads_through_array(event, pointer) {
            return None;
        }
        if let Some(value) = event.pointer(pointer.as_str()) {
            put(&mut decisive, pointer, value.clone())?;
        }
    }
    Some(Value::Object(decisive))
}

/// The event that a caller would send: the last one seen, with what decides the result in its place.
pub fn whole(predicted: Value, last: &Value, pointers: Option<&[JsonPointer]>) -> Option<Value> {
    let Some(pointers) = pointers else { return Some(predicted) };
    let mut event = last.as_object()?.clone();
    for pointer in pointers {
        match predicted.pointer(pointer.as_str()) {
            Some(value) => put(&mut event, pointer, value.clone())?,
            None => remove(&mut event, pointer),
        }
    }
    Some(Value::Object(event))
}

fn leads_through_array(event: &Value, pointer: &JsonPointer) -> bool {
    let mut value = event;
    for name in names(pointer) {
        match value {
            Value::Array(_) => return true,
            Value::Object(members) => match members.get(&name) {
                Some(member) => value = member,
                None => return false,
            },
            _ => return false,
        }
    }
    false
}

fn names(pointer: &JsonPointer) -> Vec<String> {
    let parts = pointer.as_str().split('/').skip(1);
    parts.map(|part| part.replace("~1", "/").replace("~0", "~")).collect()
}

/// Puts a value where a pointer says, making objects on the way. Nothing where something else is there.
fn put(object: &mut Map<String, Value>, pointer: &JsonPointer, value: Value) -> Option<()> {
    let names = names(pointer);
    let (last, way) = names.split_last()?;
    let mut object = object;
    for name in way {
        object = object.entry(name).or_insert_with(|| Value::Object(Map::new())).as_object_mut()?;
    }
    object.insert(last.clone(), value);
    Some(())
}

fn remove(object: &mut Map<String, Value>, pointer: &JsonPointer) {
    let names = names(pointer);
    let Some((last, way)) = names.split_last() else { return };
    let mut object = object;
    for name in way {
        let Some(inner) = object.get_mut(name).and_then(Value::as_object_mut) else { return };
        object = inner;
    }
    object.remove(last);
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn pointers(texts: &[&str]) -> Vec<JsonPointer> {
        texts.iter().map(|text| JsonPointer::parse(text).unwrap()).collect()
    }

    #[test]
    fn what_decides_is_taken_out_and_put_back_into_the_last_event() {
        let pointers = pointers(&["/from", "/options/range", "/x"]);
        let event = json!({"from": "JFK", "options": {"range": 7, "trace": 1}, "request": "a"});
        let decisive = decisive(&event, Some(&pointers)).unwrap();
        assert_eq!(decisive, json!({"from": "JFK", "options": {"range": 7}}));
        let predicted = json!({"from": "JFK", "options": {"range": 8}});
        let last = json!({"from": "SEA", "options": {"range": 1, "trace": 2}, "x": 1, "request": "b"});
        let whole = whole(predicted, &last, Some(&pointers)).unwrap();
        assert_eq!(whole, json!({"from": "JFK", "options": {"range": 8, "trace": 2}, "request": "b"}));
    }

    #[test]
    fn without_pointers_the_event_is_what_decides() {
        let event = json!([1, {"a": 2}]);
        assert_eq!(decisive(&event, None), Some(event.clone()));
        assert_eq!(whole(event.clone(), &json!(1), None), Some(event));
        assert_eq!(decisive(&json!({"a": 1}), Some(&pointers(&[""]))), None, "the whole is no member");
        let first = pointers(&["/a/0"]);
        assert_eq!(decisive(&json!({"a": [1]}), Some(&first)), None, "an array is no object");
        assert_eq!(whole(json!({"a": {"0": 1}}), &json!({"a": [2]}), Some(&first)), None);
    }
}
