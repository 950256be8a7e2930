"""Files from elsewhere, thousands of them: what reads them says no in one line, and never anything else."""
