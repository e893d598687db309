"""Optimisers by name. Settings are known without torch, which takes seconds to import."""
