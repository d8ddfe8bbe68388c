//! The state that handlers share.

use std::sync::{Arc, PoisonError, RwLock};

use crate::Settings;

/// The state of the application, cloned for each request.
#[derive(Clone)]
pub struct Service {
    pub(crate) settings: Settings,
    pub(crate) notes: Notes,
}

/// The notes, in memory. A real service would hold a database pool here.
#[derive(Clone, Default)]
pub struct Notes(Arc<RwLock<Vec<String>>>);

impl Notes {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    pub(crate) fn get(&self, id: usize) -> Option<String> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }

    /// Adds a note and returns its number; returns `None` if there are `limit` notes already.
    pub(crate) fn add(&self, text: String, limit: usize) -> Option<usize> {
        let mut notes = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if notes.len() >= limit {
            return None;
        }
        notes.push(text);
        Some(notes.len() - 1)
    }
}
