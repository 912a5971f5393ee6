"""One Intel Gaudi card, through the plugin that Habana makes for torch."""
