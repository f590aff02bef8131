"""The static site of a registry, for the team and for an auditor: from `SiteData` to files, no store."""
