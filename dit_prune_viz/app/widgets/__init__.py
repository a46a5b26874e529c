"""Components that the pages share: a .py and a .js each."""
