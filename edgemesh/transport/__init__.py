"""MQTT connection, embedded broker, link shaping (shell)."""
