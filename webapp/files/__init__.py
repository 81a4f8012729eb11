"""Recipients, choices and results as files, for the command line and the pages alike.

Nothing here knows click or Flask but `commands`: rows become requests (`recipients`), decisions
become rows (`choices`), a mailer's export becomes rewards (`results`).
"""
