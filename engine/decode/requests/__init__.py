"""One request from its prompt to its result: prompt, job and samples, admission, text, judgement, outcome."""
