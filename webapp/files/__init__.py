"""Files of recipients, choices and rewards, for the command line and the pages alike.

`recipients` converts rows to requests, `choices` decisions to rows, `reward_export` a mailer's
export to rewards. Only `commands` imports click, and no module Flask.
"""
