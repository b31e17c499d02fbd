//! Which instances may call which: helpers may call helpers, but never in a circle. Pure.

use std::collections::BTreeMap;

use petgraph::algo::toposort;
use petgraph::graphmap::DiGraphMap;

/// Why bindings are refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BindingError {
    /// An instance would, through others, call itself.
    #[error("helpers would call each other in a circle: {} is part of it", .0)]
    Circle(String),
}

/// Checks the bindings of all instances of a tenant together: instance name to the names of the instances that it calls.
///
/// # Errors
/// [`BindingError::Circle`] naming one instance of the circle.
pub fn check_bindings(calls: &BTreeMap<String, Vec<String>>) -> Result<(), BindingError> {
    let mut graph = DiGraphMap::<&str, ()>::new();
    for (caller, called) in calls {
        graph.add_node(caller);
        for name in called {
            if caller == name {
                return Err(BindingError::Circle(caller.clone()));
            }
            graph.add_edge(caller, name, ());
        }
    }
    toposort(&graph, None).map(|_| ()).map_err(|circle| BindingError::Circle(circle.node_id().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(edges: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
        edges.iter().map(|(from, to)| ((*from).to_owned(), to.iter().map(|to| (*to).to_owned()).collect())).collect()
    }

    #[test]
    fn circles_of_any_length_are_refused() {
        assert_eq!(check_bindings(&calls(&[("a", &["b", "c"]), ("b", &["c"]), ("c", &[])])), Ok(()));
        assert!(check_bindings(&calls(&[("a", &["a"])])).is_err());
        assert!(check_bindings(&calls(&[("a", &["b"]), ("b", &["a"])])).is_err());
        assert!(check_bindings(&calls(&[("a", &["b"]), ("b", &["c"]), ("c", &["d"]), ("d", &["b"])])).is_err());
    }
}
