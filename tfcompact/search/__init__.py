"""Architecture search: rewards, controllers, trials."""
