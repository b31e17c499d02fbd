//! A doubly linked list in one vector: places stay the same while their entries live.

/// No place.
const NONE: usize = usize::MAX;

/// The list. The front is where entries come in.
pub struct List<T> {
    nodes: Vec<Node<T>>,
    free: Vec<usize>,
    front: usize,
    back: usize,
}

struct Node<T> {
    value: Option<T>,
    /// Towards the front.
    newer: usize,
    /// Towards the back.
    older: usize,
}

impl<T> List<T> {
    /// An empty one.
    pub fn new() -> Self {
        Self { nodes: Vec::new(), free: Vec::new(), front: NONE, back: NONE }
    }

    /// Puts a value at the front. Returns its place.
    pub fn push_front(&mut self, value: T) -> usize {
        let node = Node { value: Some(value), newer: NONE, older: self.front };
        let place = match self.free.pop() {
            Some(place) => {
                self.nodes[place] = node;
                place
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() - 1
            }
        };
        match self.front {
            NONE => self.back = place,
            front => self.nodes[front].newer = place,
        }
        self.front = place;
        place
    }

    /// Takes the value at a place out.
    pub fn remove(&mut self, place: usize) -> Option<T> {
        let node = self.nodes.get_mut(place)?;
        let value = node.value.take()?;
        let (newer, older) = (node.newer, node.older);
        match newer {
            NONE => self.front = older,
            newer => self.nodes[newer].older = older,
        }
        match older {
            NONE => self.back = newer,
            older => self.nodes[older].newer = newer,
        }
        self.free.push(place);
        Some(value)
    }

    /// The value at a place.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut T> {
        self.nodes.get_mut(place)?.value.as_mut()
    }

    /// The place at the back.
    pub fn back(&self) -> Option<usize> {
        (self.back != NONE).then_some(self.back)
    }

    /// The place before another, towards the front.
    pub fn newer(&self, place: usize) -> Option<usize> {
        self.nodes.get(place).map(|node| node.newer).filter(|newer| *newer != NONE)
    }
}
